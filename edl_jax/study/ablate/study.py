"""One factor at a time around a base config: `python run.py ablate`.

Every cell evolves the same seeds with common random numbers (start, fitness batches and held-out pairs depend on the
seed alone), as many members as the base run evaluates, and then on to where the base run's time would end.
Seconds are those of a run that has the machine to itself. Finished cells are kept: --resume continues a killed study.
"""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edl_jax.core import jax_settings
from edl_jax.core.config import GROWS
from edl_jax.core.errors import choose, require
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.plot.style import check_format
from edl_jax.pretrain import PretrainConfig
from edl_jax.study.ablate import figures, report
from edl_jax.study.ablate.factors import FACTORS, Cell, cells, generations
from edl_jax.study.ablate.measurement import Result, cell_file, complete, load, runs_of, save, times


@dataclasses.dataclass(frozen=True)
class AblateConfig:
    """Vary one factor at a time around a base config."""

    factors: tuple[str, ...] = tuple(FACTORS)
    """Factors to vary (default: all)."""
    runs: int = dataclasses.field(default=10, metadata=GROWS)
    """Seeds per cell, from the base's seed on; --resume may add some."""
    base: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    """The config around which factors vary."""

    def __post_init__(self) -> None:
        require(1 <= self.runs < 2**20, f"runs is {self.runs}, expected 1 or more")
        require(len(self.factors) > 0, f"no factor given, expected some of {', '.join(FACTORS)}")
        object.__setattr__(self, "factors", tuple(choose("factor", factor, FACTORS) for factor in self.factors))
        room = f"base.seed {self.base.seed} leaves no room for {self.runs} runs, expected less than 2^31"
        require(self.base.seed + self.runs < 2**31, room)
        require(self.base.runs == 1, f"base.runs is {self.base.runs}, expected 1: give --runs for seeds per cell")


@jax_settings.fixed()
def run(
    config: AblateConfig,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    retime: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Run the cells that are left, then test and draw.

    Args:
      config: what to vary.
      out: run directory (default `runs/ablate-<time>`).
      resume: keep the finished cells in `out`.
      overwrite: replace the study in `out`.
      retime: at the end measure every cell's time a generation again, between runs of the base: for a study whose cells
        shared the machine with other work.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the study to stop, after the cell in work.

    Returns:
      The content of result.json: every cell's numbers and the comparisons with the base.

    Raises:
      UserError: a level that the base does not allow, or a directory that may not be written.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    todo = cells(config.base, config.factors)
    base = todo[0].config
    directory = Run.open("ablate", config, out=out, resume=resume, overwrite=overwrite)
    stop.path = directory.path
    try:
        print(_announcement(todo, config.runs), flush=True)
        results: dict[int, Result] = {}
        stored = [load(cell_file(directory.path, i), cell.config) for i, cell in enumerate(todo)]
        bar = tqdm(todo, unit="cell", desc="ablate", disable=not sys.stderr.isatty())
        for i, cell in enumerate(bar):
            stop.check(f"cell {i} of {len(todo)}" if i else "")
            budget = results[0].seconds * base.generations if results else math.inf
            results[i] = complete(stored[i], cell.config, base, config.runs, budget)
            if results[i] is not stored[i]:
                save(cell_file(directory.path, i), cell.config, results[i])
            if i == 0:
                left = [(cell, config.runs - runs_of(found)) for cell, found in zip(todo, stored, strict=True)][1:]
                print(_estimate([pair for pair in left if pair[1]], base, results[0]), flush=True)
        stop.check(f"cell {len(todo)} of {len(todo)}")
        if retime:
            for i, seconds in times(todo).items():
                results[i] = results[i]._replace(seconds=seconds)
                save(cell_file(directory.path, i), todo[i].config, results[i])
        result = report.write(directory.path, todo, results, base)
        directory.finish(result)
        figures.draw(directory.path / "figures", todo, results, result, figure_format)
        return result
    finally:
        directory.close()


def _announcement(todo: list[Cell], runs: int) -> str:
    total = sum(generations(cell.config, todo[0].config) for cell in todo) * runs
    return (
        f"ablate: {len(todo)} cells of {runs} runs, {total:,} generations; the base cell comes first, for an estimate"
    )


def _estimate(left: list[tuple[Cell, int]], base: PretrainConfig, measured: Result) -> str:
    """Return a line on the time that cells take of which some runs are missing, as many as stand beside each."""
    seconds = measured.seconds
    total = 0.0
    for cell, runs in left:
        size = cell.config.es.population_size / base.es.population_size
        # Measured: networks that cannot be tabulated cost about 25 times as much.
        size *= 25.0 if base.is_tabulated and not cell.config.is_tabulated else 1.0
        total += measured.seconds_compiling + runs * generations(cell.config, base) * seconds * size
    return f"ablate: {1e3 * seconds:.2f} ms a generation; about {total / 60:.0f} minutes for the {len(left)} cells left"
