"""What is to be run: the cells that are known, in their order, and how many there will be."""

from typing import NamedTuple

from edl_jax.study.compare.cells import Cell, drop_in_cells, evaluation_cells, settings, tuning_cells
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.ledger import Ledger
from edl_jax.study.compare.tune import choose_rate


class Plan(NamedTuple):
    """The cells of a grid.

    Attributes:
      cells: those that are known, each once, in the order in which they are taken.
      unknown: how many more there will be at most, once rates are chosen.
    """

    cells: list[Cell]
    unknown: int

    @property
    def total(self) -> int:
        """Return the number of cells, those that are not known yet included."""
        return len(self.cells) + self.unknown


def make_plan(config: CompareConfig, ledger: Ledger) -> Plan:
    """Return the plan of a grid, given what its directory holds.

    Cells of one rate come first, then those of tuning, then those at chosen rates; a cell at a chosen rate that is the
    grid's own is there already.
    """
    cells = {cell.name: cell for cell in drop_in_cells(config)}
    chosen: dict[str, Cell] = {}
    unknown = 0
    if config.tune_lr:
        for index in range(config.tune_lr):
            for setting in settings(config):
                for text in config.losses:
                    for of_factor in tuning_cells(config, setting, text).values():
                        cells.setdefault(of_factor[index].name, of_factor[index])
        for setting in settings(config):
            for text in config.losses:
                choice = choose_rate(config, ledger, setting, text)
                if choice.factor is not None:
                    found = evaluation_cells(config, setting, text, choice.factor)
                    chosen |= {cell.name: cell for cell in found}
                elif not choice.settled:
                    unknown += len(config.seeds)
    for name, cell in chosen.items():
        cells.setdefault(name, cell)
    return Plan(list(cells.values()), unknown)
