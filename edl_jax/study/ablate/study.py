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
from edl_jax.core.errors import require, unknown
from edl_jax.core.runs import Run
from edl_jax.plot.style import check_format
from edl_jax.pretrain import PretrainConfig
from edl_jax.study.ablate import report
from edl_jax.study.ablate.factors import FACTORS, Cell, cells, generations
from edl_jax.study.ablate.measurement import Result, cell_file, load, measure, save, times


@dataclasses.dataclass(frozen=True)
class AblateConfig:
    """Vary one factor at a time around a base config."""

    factors: tuple[str, ...] = tuple(FACTORS)
    """Factors to vary (default: all)."""
    runs: int = 10
    """Seeds per cell, from the base's seed on."""
    base: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    """The config around which factors vary."""

    def __post_init__(self) -> None:
        require(1 <= self.runs < 2**20, f"runs is {self.runs}, expected 1 or more")
        require(len(self.factors) > 0, f"no factor given, expected some of {', '.join(FACTORS)}")
        for factor in self.factors:
            if factor not in FACTORS:
                raise unknown("factor", factor, FACTORS)
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

    Returns:
      The content of result.json: every cell's numbers and the comparisons with the base.

    Raises:
      UserError: a level that the base does not allow, or a directory that may not be written.
    """
    check_format(figure_format)
    todo = cells(config.base, config.factors)
    base = todo[0].config
    directory = Run.open("ablate", config, out=out, resume=resume, overwrite=overwrite)
    try:
        print(_announcement(todo, config.runs), flush=True)
        results: dict[int, Result] = {}
        bar = tqdm(todo, unit="cell", desc="ablate", disable=not sys.stderr.isatty())
        for i, cell in enumerate(bar):
            path = cell_file(directory.path, i)
            stored = load(path, cell.config)
            budget = results[0].seconds * base.generations if results else math.inf
            results[i] = measure(cell.config, base, config.runs, budget) if stored is None else stored
            if stored is None:
                save(path, cell.config, results[i])
            if i == 0:
                left = [other for j, other in enumerate(todo) if not cell_file(directory.path, j).exists()]
                print(_estimate(left, base, results[0], config.runs), flush=True)
        if retime:
            for i, seconds in times(todo).items():
                results[i] = results[i]._replace(seconds=seconds)
                save(cell_file(directory.path, i), todo[i].config, results[i])
        result = report.write(directory.path, todo, results, base, figure_format)
        directory.finish(result)
        return result
    finally:
        directory.close()


def _announcement(todo: list[Cell], runs: int) -> str:
    total = sum(generations(cell.config, todo[0].config) for cell in todo) * runs
    return (
        f"ablate: {len(todo)} cells of {runs} runs, {total:,} generations; the base cell comes first, for an estimate"
    )


def _estimate(left: list[Cell], base: PretrainConfig, measured: Result, runs: int) -> str:
    seconds = measured.seconds
    total = 0.0
    for cell in left:
        size = cell.config.es.population_size / base.es.population_size
        # Measured: networks that cannot be tabulated cost about 25 times as much.
        size *= 25.0 if base.is_tabulated and not cell.config.is_tabulated else 1.0
        total += measured.seconds_compiling + runs * generations(cell.config, base) * seconds * size
    return f"ablate: {1e3 * seconds:.2f} ms a generation; about {total / 60:.0f} minutes for the {len(left)} cells left"
