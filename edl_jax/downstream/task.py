"""What a run of stage 2 trains, settled before anything is written: data, labels, model, loss, optimizer."""

import dataclasses
import os
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax import data, loss, models, training
from edl_jax.backend import memory
from edl_jax.core.errors import UserError, command, require
from edl_jax.core.inputs import Input
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.loss.registry import digest as loss_digest
from edl_jax.training.step import AugmentFn, LossFn


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Everything that is settled before the run directory is written.

    Attributes:
      dataset: training and test images.
      images: `[N, H, W, C]` uint8, the training images in use; none is read yet.
      labels: `[N]` int32, as trained on.
      true_labels: `[N]` int32, before label noise.
      val_images: `[V, H, W, C]` uint8, held out of training; V is 0 where there is no validation.
      val_labels: `[V]` int32, with the same noise as the labels of training.
      model: network.
      loss_fn: loss.
      augment: augmentation inside the training step, or None.
      precision: dtype of the computation.
      loop: how an epoch runs.
      schedule: step -> learning rate.
      steps: of an epoch.
      inputs: data set and loss as they are read from files.
    """

    dataset: data.Dataset
    images: data.ImageView
    labels: np.ndarray
    true_labels: np.ndarray
    val_images: data.ImageView
    val_labels: np.ndarray
    model: nn.Module
    loss_fn: LossFn
    augment: AugmentFn | None
    precision: str
    loop: str
    schedule: optax.Schedule
    steps: int
    inputs: Mapping[str, Input]


class _Examples(NamedTuple):
    """What the seed draws, by its names in `Task`."""

    images: data.ImageView
    labels: np.ndarray
    true_labels: np.ndarray
    val_images: data.ImageView
    val_labels: np.ndarray


def prepare_task(
    config: DownstreamConfig,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
    dataset: data.Dataset | None = None,
) -> Task:
    """Check what can be checked without training, and load the data, or take `dataset`, which is loaded."""
    loss_fn = loss.get(config.loss, **config.hyper_parameters)
    if dataset is None:
        dataset = data.load(config.dataset, data_dir, cache_dir, image_size=config.image_size)
    num_classes = dataset.num_classes
    try:
        logits = jax.ShapeDtypeStruct((2, num_classes), jnp.float32)
        jax.eval_shape(loss_fn, logits, jax.ShapeDtypeStruct((2,), jnp.int32))
    except ValueError as error:
        raise UserError(f"loss {config.loss} does not fit {config.dataset}: {error}") from error
    examples = _draw_examples(config, dataset)
    precision = choose_precision(config)
    model = models.create(config.arch, num_classes, jnp.dtype(precision), init=config.init)
    # A network that cannot take these images says so when it is traced.
    jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *examples.images.shape[1:])), train=False))
    num_bytes = examples.images.nbytes + examples.val_images.nbytes + dataset.test_images.nbytes
    steps = len(examples.images) // config.batch_size
    return Task(
        dataset=dataset,
        **examples._asdict(),
        model=model,
        loss_fn=loss_fn,
        augment=training.make_augment(dataset, config.augment),
        precision=precision,
        loop=training.choose_loop(config.loop, jax.default_backend(), num_bytes, memory.total_bytes()),
        schedule=training.make_schedule(
            config.schedule, config.numbers.lr, steps * config.epochs, round(steps * config.warmup)
        ),
        steps=steps,
        inputs=_inputs(config, dataset),
    )


def _inputs(config: DownstreamConfig, dataset: data.Dataset) -> dict[str, Input]:
    found = {"dataset": Input(f"data set {config.dataset}", dataset.digest)}
    digest = loss_digest(config.loss)
    return found if digest is None else {**found, "loss": Input(f"loss {config.loss}", digest)}


def choose_precision(config: DownstreamConfig) -> str:
    """Return the dtype of the computation, with `auto` resolved for the default backend."""
    if config.precision != "auto":
        return config.precision
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def _draw_examples(config: DownstreamConfig, dataset: data.Dataset) -> _Examples:
    """Return what the seed draws: images and labels to train on and to validate on.

    In this order: a subset of train_size + val_size images, class imbalance, label noise, and then the validation part
    with the share of each label as given. So validation images come out of what is at hand, and are mistaken as often
    as those of training: what a person has who knows no true label (Zhang and Sabuncu 2018, 1805.07836).
    """
    require(
        len(dataset.train_images) > 0,
        f"{dataset.name} has no training images: train on another set and use this one with "
        f"{command('evaluate --dataset')}",
    )
    size, val_size, num_classes = config.train_size, config.val_size, dataset.num_classes
    if size is not None and val_size:
        have = len(dataset.train_images)
        require(
            size + val_size <= have,
            f"train_size and val_size are {size} and {val_size}, expected at most {have} in all ({dataset.name} has no "
            "more)",
        )
        size += val_size
    images, true_labels = training.train_subset(dataset, size, config.seed)
    images, true_labels = _imbalanced(config, images, true_labels, num_classes)
    labels, _ = data.add_label_noise(
        true_labels,
        config.label_noise_kind,
        config.label_noise,
        dataset=config.dataset,
        num_classes=num_classes,
        seed=config.seed,
    )
    require(
        config.batch_size + val_size <= len(images),
        f"batch_size is {config.batch_size}, expected at most the {len(images)} training images of {config.dataset}"
        + (f" less val_size ({val_size})" if val_size else ""),
    )
    out = np.zeros(len(images), bool)
    if val_size:
        out[training.stratified_indices(labels, val_size, num_classes=num_classes, seed=config.seed)] = True
    return _Examples(images.select(~out), labels[~out], true_labels[~out], images.select(out), labels[out])


def _imbalanced(
    config: DownstreamConfig, images: data.ImageView, labels: np.ndarray, num_classes: int
) -> tuple[data.ImageView, np.ndarray]:
    if config.imbalance == 1.0:
        return images, labels
    kept = data.imbalanced_indices(
        labels, config.imbalance, num_classes=num_classes, seed=config.seed, kind=config.imbalance_kind
    )
    return images.select(kept), labels[kept]


def make_optimizer(config: DownstreamConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Return the optimizer of a run, whose state does not depend on the `schedule`."""
    return training.make_optimizer(
        config.optimizer,
        schedule,
        momentum=config.numbers.momentum,
        weight_decay=config.numbers.weight_decay,
        clip_norm=config.clip_norm,
    )


def initial_state(
    key: jax.Array,
    config: DownstreamConfig,
    model: nn.Module,
    image_shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
) -> training.TrainState:
    """Return the state before the first step, for images of shape [H, W, C]."""
    return training.create_state(key, model, image_shape, optimizer, average=config.ema > 0.0)
