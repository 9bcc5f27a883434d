"""How far small networks rank losses as larger ones do: `python run.py surrogate-study`.

Every network is trained with all candidates, each time from the same first weights on the same batches. What a chunk of
candidates gave is kept: --resume continues a killed study.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax import data
from edl_jax.core import jax_settings, status
from edl_jax.core.inputs import Input
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.plot.style import check_format
from edl_jax.study.candidates import Candidate
from edl_jax.study.stages import check, networks
from edl_jax.study.surrogates import figures, report, sample
from edl_jax.study.surrogates.agreement import Network, measure
from edl_jax.study.surrogates.config import SurrogateConfig

COMMAND = "surrogate-study"


@jax_settings.fixed()
def run(
    config: SurrogateConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train what is left of the networks, then compare and draw.

    Args:
      config: candidates and networks.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/surrogate-study-<time>`).
      resume: keep what is trained in `out`.
      overwrite: replace the study in `out`.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the study to stop, within a second or so; the chunk of candidates in work is trained again on resuming.

    Returns:
      The content of result.json: `networks`, `rows`, the numbers of `agreement.measure`, and `report`, its path.

    Raises:
      UserError: a setting that cannot be used, a run that gives no candidates, or a directory that may not be written.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    with Run.preparing(COMMAND, config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        status.say("drawing the candidates")
        found = sample.draw(config.runs, config.candidates, config.seed)
        stages = config.stages
        sizes = dict.fromkeys(stage.image_size for stage in stages)
        status.say(f"loading {config.dataset}")
        datasets = {size: data.load(config.dataset, data_dir, cache_dir, image_size=size) for size in sizes}
        for stage in stages:
            check(stage, datasets[stage.image_size])
    inputs = {f"dataset {size}": Input(f"data set {config.dataset}", x.digest) for size, x in datasets.items()}
    directory = open_run(inputs={**inputs, "candidates": sample.digest(found)})
    stop.path = directory.path
    seeds = (config.seed, config.seed + 1) if config.repeat else (config.seed,)
    try:
        trained = networks.train(stages, found, datasets, seeds, directory.path / "stages", stop, COMMAND)
        compared = [Network(*each[:-1], *each.outcomes) for each in trained]
        result = _conclude(directory.path, config, found, compared, stop, figure_format)
        directory.finish(result)
        return result
    finally:
        directory.close()


def _conclude(
    path: Path,
    config: SurrogateConfig,
    found: Sequence[Candidate],
    networks: Sequence[Network],
    stop: Stop,
    figure_format: str,
) -> dict[str, Any]:
    """Compare the networks, draw, and write the report; return the content of result.json."""

    def say(what: str) -> None:
        status.say(what)
        stop.check("all trainings")

    rows = measure(networks, say)
    say("drawing")
    drawn = figures.draw(path / "figures", networks, rows, figure_format)
    facts = {
        "candidates": f"{len(found)} {_origin(config)}",
        "data set": f"{config.dataset}: official training images, a part of them for validation",
        "seed": config.seed,
        "repetition": f"seed {config.seed + 1}" if config.repeat else "none",
    }
    report.write(path, facts, [(each.name, each.formula) for each in found], networks, rows, drawn)
    return {
        "report": str(path / "report.md"),
        "candidates": len(found),
        "networks": [
            {
                "name": network.name,
                "training": network.training,
                "seconds": round(network.seconds, 4),
                "trained": int(np.isfinite(network.errors).sum()),
                "best_error": float(network.errors.min()),
            }
            for network in networks
        ],
        "rows": [row.to_dict() for row in rows],
    }


def _origin(config: SurrogateConfig) -> str:
    if not config.runs:
        return "random losses that pass NLFS's integrity check"
    return f"losses of {', '.join(config.runs)}: equal shares of the quantiles of their fitness, the best included"
