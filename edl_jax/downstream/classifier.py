"""A trained classifier, read from its run directory alone."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import data, models
from edl_jax.backend import compiler
from edl_jax.core import status
from edl_jax.core.config import override
from edl_jax.core.errors import UserError, command, local_path, require
from edl_jax.core.files import read_json, write_json
from edl_jax.core.runs import read_checkpoint
from edl_jax.downstream.config import PRECISIONS, DownstreamConfig
from edl_jax.downstream.task import Task, choose_precision, initial_state, make_optimizer

_FILE = "classifier.json"


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a network takes and gives.

    Attributes:
      label_names: names of the classes, in the order of the logits.
      image_shape: (H, W, C) of an image.
      mean: [C] mean of each channel in 0..1 units, by which images are normalised.
      std: [C] standard deviation, likewise.
      precision: dtype of the computation.
    """

    label_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str

    def __post_init__(self) -> None:
        channels = self.image_shape[-1]
        whole = all(type(side) is int and 1 <= side < 2**16 for side in self.image_shape)
        require(
            len(self.image_shape) == 3 and whole, f"image_shape is {self.image_shape}, expected height, width, channels"
        )
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            fits = len(numbers) == channels and all(type(number) is float for number in numbers)
            require(fits, f"{name} is {numbers}, expected {channels} numbers")
        named = len(self.label_names) >= 2 and all(type(name) is str for name in self.label_names)
        require(named, f"label_names is {self.label_names}, expected at least 2 names")
        require(
            self.precision in PRECISIONS[1:], f"precision is {self.precision!r}, expected {' or '.join(PRECISIONS[1:])}"
        )

    @classmethod
    def of(cls, dataset: data.Dataset, precision: str) -> "Signature":
        """Return the signature of a network that is trained on a data set."""
        return cls(
            label_names=tuple(dataset.label_names),
            image_shape=dataset.test_images.shape[1:],  # type: ignore[arg-type] # of rank 4
            mean=tuple(dataset.mean.tolist()),
            std=tuple(dataset.std.tolist()),
            precision=precision,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network with what belongs to it.

    Attributes:
      config: settings of the run.
      epoch: that the weights are of.
      signature: what the network takes and gives.
      model: network.
      variables: `{"params": ..., "batch_stats": ...}`, float32: the averaged ones of a run with `ema`.
    """

    config: DownstreamConfig
    epoch: int
    signature: Signature
    model: nn.Module
    variables: Mapping[str, Any]

    def prepare(self, images: jax.Array) -> jax.Array:
        """Return the network's input for images [N, H, W, C] uint8; it can be traced."""
        mean, std = (jnp.asarray(numbers, jnp.float32) for numbers in (self.signature.mean, self.signature.std))
        return data.normalize(images, mean, std, jnp.dtype(self.signature.precision))

    def apply(self, variables: Mapping[str, Any], images: jax.Array) -> jax.Array:
        """Return the logits [N, number of classes] float32 of images [N, H, W, C] uint8; it can be traced."""
        return jnp.asarray(self.model.apply(variables, self.prepare(images), train=False)).astype(jnp.float32)

    def compile(self, batch_size: int) -> Callable[[np.ndarray], jax.Array]:
        """Return the function images [batch_size, H, W, C] uint8 -> logits [batch_size, number of classes] float32."""
        status.say("compiling")
        images = jax.ShapeDtypeStruct((batch_size, *self.signature.image_shape), jnp.uint8)
        variables = jax.device_put(self.variables)
        return functools.partial(compiler.compile_lowered(jax.jit(self.apply).lower(variables, images)), variables)


def load_classifier(
    run: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Classifier:
    """Return the classifier of a downstream run: the newest checkpoint, which may be of an unfinished run.

    The data set need not be there, but for a run of an earlier release, whose directory lacks classifier.json.

    Args:
      run: run directory.
      data_dir: TFDS directory, for such a run (default: TFDS's own).
      cache_dir: where decoded images are kept, likewise.

    Raises:
      UserError: no downstream run or checkpoint at `run`, or files in it that cannot be read.
    """
    path = local_path(run).absolute()
    config = read_config(path)
    signature = _read_signature(path, config, data_dir, cache_dir)
    model = models.create(config.arch, len(signature.label_names), jnp.dtype(signature.precision), init=config.init)
    optimizer = make_optimizer(config, lambda _: 0.0)

    def init() -> Any:
        return initial_state(jax.random.key(0), config, model, signature.image_shape, optimizer)

    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(init))
    stored = read_checkpoint(path, like)
    if stored is None:
        raise UserError(f"{path} has no checkpoint: train it with {command('downstream')} --out {path} --resume")
    epoch, state = stored
    return Classifier(config, epoch, signature, model, state.averaged.variables)


def read_config(path: Path) -> DownstreamConfig:
    """Return the settings of a downstream run, from its directory.

    Raises:
      UserError: no run, one of another command or of several seeds, or a file that cannot be read.
    """
    file = path / "config.json"
    require(file.is_file(), f"no run at {path}: expected the directory of a downstream run, which holds config.json")
    try:
        record = read_json(file)
        name, settings = record["command"], record["config"]
        if not isinstance(settings, dict):
            raise TypeError(f"its config is a {type(settings).__name__}")
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}): train the run again with --overwrite") from error
    several = f"{path} holds the runs of several seeds, expected one of them"
    begun = sorted(str(run.parent) for run in path.glob("seed-*/config.json"))
    require(name != "downstream-seeds", f"{several}, such as {begun[0]}" if begun else f"{several}: none has begun")
    require(name == "downstream", f"{path} is a {name} run, expected a downstream run")
    return override(DownstreamConfig(), settings, source=str(file))


def write_signature(path: Path, task: Task) -> None:
    """Write what the network of a run takes and gives into the run's directory, for `load_classifier`."""
    write_json(path / _FILE, dataclasses.asdict(Signature.of(task.dataset, task.precision)))


def _read_signature(
    path: Path,
    config: DownstreamConfig,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> Signature:
    file = path / _FILE
    if file.is_file():
        try:
            record = read_json(file)
            fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in record.items()}
            return Signature(**fields)
        except (ValueError, TypeError, AttributeError, LookupError, UserError) as error:
            raise UserError(f"{file} cannot be read ({error}): remove it to have the data set read instead") from error
    try:
        dataset = data.load(config.dataset, data_dir, cache_dir, image_size=config.image_size)
    except UserError as error:
        raise UserError(
            f"{file} is missing, as in runs of earlier releases, so that the data set is needed: {error}"
        ) from error
    return Signature.of(dataset, choose_precision(config))
