"""A trained network as a function of its weights: losses over a fixed part of the training images, and curvatures.

Batch normalisation uses the statistics of the run, images are not augmented, and all is computed in float32.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from edl_jax import loss, models, training
from edl_jax.backend import compiler
from edl_jax.core import status
from edl_jax.core.errors import UserError, require
from edl_jax.core.files import read_json
from edl_jax.core.inputs import Input
from edl_jax.downstream.classifier import load_classifier, read_config
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.task import prepare_task
from edl_jax.synthetic.gradients import loss_gradients
from edl_jax.synthetic.mixture import MixtureConfig, draw_predictions

OWN, REFERENCE = "own", "cross_entropy"
_SCALE_PREDICTIONS = 1 << 14

Loss = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained network with a part of its training images.

    Attributes:
      name: of the run, in tables and files; no other has it.
      config: settings of the run.
      epoch: that the weights are of.
      test_accuracy: as the run found it.
      apply: (variables, images [N, H, W, C] uint8) -> logits [N, C] float32.
      params: weights, float32.
      batch_stats: statistics of batch normalisation.
      images: [N, H, W, C] uint8, whole batches.
      labels: [N] int32, as trained on.
      losses: `own` (that of the run) and `cross_entropy`; the one where it is the other.
      scales: loss -> mean gradient norm over cross-entropy's, on the predictions of the default mixture.
      digest: hash of weights, statistics, images and labels.
    """

    name: str
    config: DownstreamConfig
    epoch: int
    test_accuracy: float | None
    apply: Callable[[Any, jax.Array], jax.Array]
    params: Any
    batch_stats: Any
    images: np.ndarray
    labels: np.ndarray
    losses: Mapping[str, Loss]
    scales: Mapping[str, float]
    digest: str

    @property
    def title(self) -> str:
        """What figures and tables say of it."""
        return f"{self.config.loss_title}, {self.config.arch} on {self.config.dataset}"

    @property
    def input(self) -> Input:
        """What a resumed comparison must find again."""
        return Input(f"the network or the images of {self.name}", self.digest)


def load(
    run: Path,
    name: str,
    *,
    examples: int,
    batch_size: int,
    seed: int,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> Trained:
    """Return the network of a finished downstream run.

    Args:
      run: run directory.
      name: to call it.
      examples: training images at the most, drawn by `seed` with each class's share kept.
      batch_size: their number is a multiple of it; all of them where there are fewer.
      seed: of the images.
      data_dir: TFDS directory.
      cache_dir: where decoded images are kept.

    Raises:
      UserError: no finished downstream run, no checkpoint, or absent data.
    """
    config = read_config(run)
    file = run / "result.json"
    require(file.is_file(), f"{run} is no finished run (result.json is missing): finish it with --resume")
    try:
        accuracy = read_json(file).get("test_accuracy")
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): put back a copy, or leave that run out") from error
    classifier = load_classifier(run, data_dir=data_dir, cache_dir=cache_dir)
    try:
        task = prepare_task(config, data_dir, cache_dir)
    except UserError as error:  # what it was trained on may have moved
        raise UserError(f"{run}: {error}") from error
    classes = task.dataset.num_classes
    size = min(batch_size, len(task.images))
    count = max(min(examples, len(task.images)) // size, 1) * size
    rows = training.stratified_indices(task.labels, count, num_classes=classes, seed=seed)
    model = models.create(config.arch, classes, jnp.dtype(jnp.float32), init=config.init)
    prepare = training.make_prepare(task.dataset, jnp.float32)

    def apply(variables: Any, images: jax.Array) -> jax.Array:
        return jnp.asarray(model.apply(variables, prepare(images), train=False)).astype(jnp.float32)

    losses: dict[str, Loss] = {OWN: task.loss_fn, REFERENCE: loss.get(REFERENCE)}
    if config.loss == REFERENCE:
        del losses[OWN]
    images, labels = np.asarray(task.images[rows]), task.labels[rows].astype(np.int32)
    variables = jax.tree.map(np.asarray, dict(classifier.variables))
    return Trained(
        name,
        config,
        classifier.epoch,
        accuracy if isinstance(accuracy, float) else None,
        apply,
        variables["params"],
        variables.get("batch_stats", {}),
        images,
        labels,
        losses,
        {key: scale_of(function, classes) for key, function in losses.items()},
        _digest(variables, images, labels),
    )


def scale_of(function: Loss, num_classes: int) -> float:
    """Return the mean norm of d loss / d logits over cross-entropy's, on predictions of the default mixture.

    It is 1 for a loss that is made to take cross-entropy's place with its learning rate.
    """
    labels, log_p = draw_predictions(jax.random.key(0), MixtureConfig(), num_classes, _SCALE_PREDICTIONS)
    log_p = np.maximum(log_p, np.float32(-100.0))  # absent classes

    def mean(of: Loss) -> float:
        return float(jnp.mean(loss_gradients(lambda z: of(z, labels), jnp.asarray(log_p), jnp.asarray(labels)).norm))

    return mean(function) / mean(loss.get(REFERENCE))


def _digest(variables: Any, images: np.ndarray, labels: np.ndarray) -> str:
    content = hashlib.blake2b(digest_size=16)
    for array in (*jax.tree.leaves(variables), images, labels):
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


class Values(NamedTuple):
    """Means over the images.

    Attributes:
      losses: loss -> its mean.
      accuracy: share that is right.
    """

    losses: dict[str, float]
    accuracy: float


class Surface:
    """Losses and products with their Hessians, at any weights `[P]` float32; each program is compiled once.

    Attributes:
      params: `[P]` the weights.
      count: number of images.
    """

    def __init__(self, network: Trained, batch_size: int, check: Callable[[], None]) -> None:
        """Take a network; `check` is called after each batch, and may raise."""
        flat, self._unravel = ravel_pytree(jax.tree.map(jnp.asarray, network.params))
        self.params = np.asarray(flat)
        self._network, self._check = network, check
        self.count = len(network.labels)
        size = min(batch_size, self.count)
        stats = jax.device_put(network.batch_stats)
        self._batches = [
            (stats, *jax.device_put((network.images[i : i + size], network.labels[i : i + size])))
            for i in range(0, self.count, size)
        ]
        self._programs: dict[str, Callable[..., Any]] = {}

    def tree(self, vector: np.ndarray) -> Any:
        """Return a vector `[P]` as a pytree like the network's weights."""
        return self._unravel(jnp.asarray(vector))

    def values(self, params: np.ndarray) -> Values:
        """Return the losses and the accuracy at weights `[P]`."""
        names = list(self._network.losses)

        def sums(flat: jax.Array, stats: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            logits = self._logits(flat, stats, images)
            found = [jnp.sum(loss_fn(logits, labels)) for loss_fn in self._network.losses.values()]
            return jnp.stack([*found, jnp.sum(jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)])

        totals = np.zeros(len(names) + 1)
        flat = jax.device_put(params)
        for batch in self._batches:
            totals += np.asarray(self._program("values", sums, flat, *batch), np.float64)
            self._check()
        means = (totals / self.count).tolist()
        return Values(dict(zip(names, means, strict=False)), means[-1])

    def product(self, name: str, vector: np.ndarray) -> np.ndarray:
        """Return the Hessian of the mean of a loss, at the network's weights, times a vector `[P]`."""
        loss_fn = self._network.losses[name]

        def add(
            total: jax.Array, flat: jax.Array, vector: jax.Array, stats: Any, images: jax.Array, labels: jax.Array
        ) -> jax.Array:
            def objective(flat: jax.Array) -> jax.Array:
                return jnp.sum(loss_fn(self._logits(flat, stats, images), labels))

            return total + jax.jvp(jax.grad(objective), (flat,), (vector,))[1]

        flat, vector = jax.device_put((self.params, np.asarray(vector, np.float32)))
        total = jnp.zeros_like(flat)
        for batch in self._batches:
            total = jax.block_until_ready(self._program(f"product {name}", add, total, flat, vector, *batch))
            self._check()
        return np.asarray(total) / np.float32(self.count)

    def _logits(self, flat: jax.Array, stats: Any, images: jax.Array) -> jax.Array:
        return self._network.apply({"params": self._unravel(flat), "batch_stats": stats}, images)

    def _program(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if name not in self._programs:
            status.say(f"compiling {name}")
            self._programs[name] = compiler.compile_lowered(jax.jit(function).lower(*arguments))
        return self._programs[name](*arguments)
