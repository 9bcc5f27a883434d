"""A search from settings to an artifact: generation by generation, resumable, each with a checkpoint."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edl_jax import data
from edl_jax.core import jax_settings, status
from edl_jax.core.errors import UserError, canonical, require
from edl_jax.core.inputs import Input
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.plot.style import check_format
from edl_jax.search import kernel_store, methods, tabular
from edl_jax.search.config import SearchConfig
from edl_jax.search.estimate import estimate
from edl_jax.search.result import conclude, draw
from edl_jax.search.split import Split, split
from edl_jax.search.trials import Trials


@jax_settings.fixed()
def run(
    config: SearchConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
    dataset: data.Dataset | tabular.Table | None = None,
) -> dict[str, Any]:
    """Search for a loss and write the run directory.

    Args:
      config: what to search for.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/search-<time>`).
      resume: continue the search in `out` from its newest checkpoint; the result is that of an uninterrupted one.
      overwrite: replace the run in `out`.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the search to stop, within a second or so; the generation in work is made again on resuming.
      dataset: the data set, where it is loaded already.

    Returns:
      The content of result.json: the best candidates, `artifact`, the path of the best one's loss, counts and timings.

    Raises:
      UserError: a setting that cannot be used, a search that finds no loss, or a run directory that may not be written.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    with Run.preparing("search", config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        status.say(f"loading {config.dataset}")
        if dataset is None:
            dataset = load(config.dataset, data_dir, cache_dir, config.image_size)
        trials = Trials(config, _split(dataset, config))
    directory = open_run(inputs={"dataset": Input(f"data set {config.dataset}", dataset.digest)})
    stop.path = directory.path
    try:
        trials.directory = directory.path
        method = methods.create(trials.config, trials)
        with stop.deferring():
            state = _search(directory, trials, method, stop)
        winners = method.winners(state, 5)
        if not winners:
            raise UserError(
                f"{config.method} found no loss that a student could be trained with in {config.generations} "
                "generations: raise the number of generations or of candidates, or lower the learning rate"
            )
        method.store(state, directory.path)
        result = conclude(directory, trials, winners)
        directory.finish(result)
        more = method.draw(state, directory.path, figure_format)
        draw(directory.path, result, winners, trials, figure_format, more)
        return result
    finally:
        (directory.path / kernel_store.FILE).unlink(missing_ok=True)  # as large as the disk allows
        directory.close()


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
) -> data.Dataset | tabular.Table:
    """Return the data set of a name, images of the side `image_size` or a table.

    Raises:
      UserError: as `data.load` and `tabular.load`.
    """
    plain = canonical(name, tabular.names())
    if plain in tabular.names():
        return tabular.load(plain, data_dir)
    return data.load(name, data_dir, cache_dir, image_size=image_size)


def _split(dataset: data.Dataset | tabular.Table, config: SearchConfig) -> Split | tabular.TabularSplit:
    if isinstance(dataset, data.Dataset):
        return split(dataset, config.seed, validation=config.validation, size=config.train_size)
    require(config.train_size is None, f"train_size is {config.train_size}, expected none for a table, which is small")
    return tabular.split(dataset, config.seed)


def _search(directory: Run, trials: Trials, method: methods.Method, stop: Stop) -> Any:
    """Run the generations that are left, a checkpoint and a line of metrics each; return the state."""
    total = trials.config.generations
    stored = directory.checkpoints.restore_text(method.load)
    done, state = (0, method.init()) if stored is None else stored
    directory.rewind("generation", done)
    bar = tqdm(
        total=total, initial=done, unit="gen", desc=trials.config.method, disable=not sys.stderr.isatty(), miniters=1
    )

    def report(what: str) -> None:
        bar.set_postfix_str(what)
        stop.check(_after(done, total))

    with bar:
        report("starting")
        if done < total:
            bar.write(estimate(trials, total - done, report), file=sys.stderr)
        before: Mapping[str, float] = {}
        start = time.perf_counter()
        while done < total:
            state, row = method.advance(state, report)
            done += 1
            seconds = {name: trials.seconds.get(name, 0.0) - before.get(name, 0.0) for name in PARTS}
            seconds["other"] = time.perf_counter() - start - sum(seconds.values())
            times = {f"seconds_{name}": round(value, 3) for name, value in seconds.items()}
            before, start = dict(trials.seconds), time.perf_counter()
            directory.log({"generation": done, **row, **times})
            directory.save_text(done, method.dump(state))
            bar.update(1)
            report("" if row["best"] is None else f"best {row['best']:.4f}")
    return state


PARTS = ("kernels", "rejection", "local_search", "training")
"""Parts of a generation whose seconds are counted."""


def _after(done: int, total: int) -> str:
    return f"generation {done} of {total}"
