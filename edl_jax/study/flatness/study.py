"""How flat the minima are that losses lead to: `python run.py flatness RUN...`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edl_jax.core import jax_settings, status
from edl_jax.core.errors import command, local_path, require
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.plot.style import check_format
from edl_jax.study.flatness import figures, measure, network, report
from edl_jax.study.flatness.config import FlatnessConfig
from edl_jax.study.flatness.measure import Measured
from edl_jax.study.flatness.network import Trained

COMMAND = "flatness"


@jax_settings.fixed()
def run(
    config: FlatnessConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Measure what is left of the networks, then compare and draw.

    Args:
      config: runs, and how exactly they are measured.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/flatness-<time>`).
      resume: keep what is measured in `out`.
      overwrite: replace the comparison in `out`.
      figure_format: of the figures: png, pdf or svg.
      stop: asks to stop, after the next batch of images.

    Returns:
      The content of result.json: `rows`, a mapping for each network and Hessian, and `report`, its path.

    Raises:
      UserError: a setting that cannot be used, no finished run, absent data, or a directory that may not be written.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    with Run.preparing(COMMAND, config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        networks = _load(config, data_dir, cache_dir)
    directory = open_run(inputs={f"run {i}": each.input for i, each in enumerate(networks, 1)})
    stop.path = directory.path
    try:
        found = _measure(directory.path, config, networks, stop)
        status.say("drawing")
        stop.check("all measurements")
        drawn = figures.draw(directory.path / "figures", found, figure_format)
        table = report.rows(found, config.tolerance)
        facts = {
            "images": f"{', '.join(sorted({str(len(each.labels)) for each in networks}))} of training",
            "eigenvalues": f"{config.eigenvalues}, at most {config.iterations} products, up to {config.tolerance:g}",
            "traces": f"{config.probes} random vectors each",
            "slices": f"{config.directions} directions, up to {config.span:g} lengths of the filters",
            "seed": config.seed,
        }
        report.write(directory.path, facts, found, table, drawn, tolerance=config.tolerance)
        result = {"report": str(directory.path / "report.md"), "rows": table}
        directory.finish(result)
        return result
    finally:
        directory.close()


def _load(
    config: FlatnessConfig, data_dir: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None
) -> list[Trained]:
    """Return the networks of the runs."""
    require(len(config.runs) > 0, f"no run given: {command(COMMAND)} RUN [RUN ...], directories of downstream runs")
    paths = [local_path(text).absolute() for text in config.runs]
    for text, path in zip(config.runs, paths, strict=True):
        same = sum(path.resolve() == other.resolve() for other in paths)
        require(same == 1, f"{text} is given {same} times, expected each run once")
    networks = []
    for i, path in enumerate(paths, 1):
        status.say(f"loading {path.name}")
        networks.append(
            network.load(
                path,
                f"{i}-{path.name}",
                examples=config.examples,
                batch_size=config.batch_size,
                seed=config.seed,
                data_dir=data_dir,
                cache_dir=cache_dir,
            )
        )
    return networks


def _measure(path: Path, config: FlatnessConfig, networks: Sequence[Trained], stop: Stop) -> list[Measured]:
    """Measure what is left of each network."""
    found = []
    with tqdm(total=len(networks), unit="run", desc=COMMAND, disable=not sys.stderr.isatty()) as bar:
        for each in networks:

            def say(what: str, name: str = each.name) -> None:
                bar.set_postfix_str(f"{name}: {what}")

            def check() -> None:
                stop.check(f"{bar.n} of {bar.total} networks, and a part of the next")

            found.append(measure.measure(each, config, path / "networks" / each.name, say, check))
            bar.update()
    return found
