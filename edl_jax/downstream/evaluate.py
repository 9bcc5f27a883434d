"""A trained classifier looked at closely: `python run.py evaluate RUN [--dataset D]`."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from edl_jax import data, training
from edl_jax.core import jax_settings
from edl_jax.core.errors import UserError, local_path, require
from edl_jax.core.files import write_json
from edl_jax.core.runs import read_metrics
from edl_jax.downstream.classifier import Classifier, load_classifier, read_config
from edl_jax.downstream.scaling import scaled_by_halves
from edl_jax.plot import classifier
from edl_jax.plot.style import check_format

_BATCH = 1000
_LOGGER = logging.getLogger("edl_jax")


@jax_settings.fixed()
def run(
    path: str | Path,
    *,
    dataset: str | None = None,
    temperature: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    figure_format: str = "png",
) -> dict[str, Any]:
    """Evaluate the newest checkpoint of a downstream run on test images; the run itself is left as it is.

    The network computes in the run's precision, as it does in `predict`, so that its numbers are the run's on any
    machine and a temperature fits them. What the run was trained on need not be there when another set is evaluated.

    Args:
      path: run directory.
      dataset: data set whose test images are used (default: that of the run).
      temperature: whether to report temperature scaling as well. It is fitted on each half of the test images and
        applied to the other half, so that no example is scaled by a temperature that has seen it.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      overwrite: replace an earlier evaluation on that data set.
      figure_format: of the figures: png, pdf or svg.

    Returns:
      The metrics of `training.Report.metrics`, `epoch`, `dataset`, with temperature also `temperature` and `scaled`,
      and `report`, the path of RUN/evaluation/DATASET.json, a slash in the name being a dash. Three figures lie
      beside it.

    Raises:
      UserError: as `load_classifier`, a data set whose images or classes the network does not
        take, absent data, or an evaluation that exists.
    """
    check_format(figure_format)
    path = local_path(path).absolute()
    config = read_config(path)
    name = data.canonical_name(dataset or config.dataset)
    out = path / "evaluation" / f"{data.file_stem(name)}.json"
    require(overwrite or not out.exists(), f"{out} exists: give --overwrite to replace it")
    chosen = data.load(name, data_dir, cache_dir, image_size=config.image_size)
    network = load_classifier(path, data_dir=data_dir, cache_dir=cache_dir)
    _check_fits(network, chosen)
    rows, epoch = _rows(path), network.epoch
    last = max((int(row.get("epoch") or 0) for row in rows), default=0)
    if last < config.epochs:
        last -= last % config.checkpoint_every
    if last > epoch:
        _LOGGER.warning("the checkpoint of epoch %d is gone from %s: evaluating that of epoch %d", last, path, epoch)
    size = min(_BATCH, len(chosen.test_images))
    batches = training.make_eval_batches(chosen.test_images, chosen.test_labels, size, resident=False)
    variables = jax.device_put(network.variables)
    report = training.compile_report(network.model, network.prepare, variables, batches[0])(variables, batches)
    result = {"dataset": name, "epoch": epoch, **report.metrics()}
    if temperature:
        result |= scaled_by_halves(report)
    write_json(out, result)
    trained_with = config.loss_title
    classifier.draw(
        out.parent,
        rows,
        bins=report.sums.bins,
        confusion=report.sums.confusion,
        loss=trained_with,
        names=chosen.label_names,
        title=f"{trained_with} on {data.file_stem(name)}",
        prefix=f"{out.stem}-",
        figure_format=figure_format,
        again="give --overwrite",
    )
    return {**result, "report": str(out)}


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`."""
    shown = ["accuracy", "top5_accuracy", "nll", "brier", "ece", "ece_equal_mass"]
    lines = ["   ".join(f"{name} {result[name]:.4f}" for name in shown if name in result)]
    if "scaled" not in result:
        return lines
    if result["scaled"] is None:
        return [*lines, f"no temperature: {result['temperature_error']}"]
    scaled = "   ".join(f"{name} {value:.4f}" for name, value in result["scaled"].items())
    return [*lines, f"at temperature {result['temperature']:.3f}: {scaled}"]


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics, or none where they are damaged: they are drawn beside the evaluation, no more."""
    try:
        return read_metrics(path)
    except UserError as error:
        _LOGGER.warning("no curves: %s", error)
        return []


def _check_fits(network: Classifier, chosen: data.Dataset) -> None:
    """Raise UserError unless images and classes of `chosen` are those that the network was trained on."""
    for what, mine, theirs in (
        ("classes", len(network.signature.label_names), chosen.num_classes),
        ("image shape", network.signature.image_shape, chosen.test_images.shape[1:]),
    ):
        require(
            mine == theirs,
            f"{chosen.name} has {what} {theirs}, expected {mine}: the network was trained on {network.config.dataset}",
        )
