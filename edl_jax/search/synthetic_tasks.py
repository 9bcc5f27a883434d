"""Synthetic classification tasks and small students, many trained in one compiled program: no real data.

A task is drawn from a seed. Two kinds:

    clusters   every class is three Gaussian clouds; the classes overlap
    teacher    the label is the largest logit of a random tanh network on Gaussian inputs; no overlap

Training labels are replaced with probability `noise` by another class; validation and test labels are clean.
The student is an MLP; all students of a call see the same batches from the same initial weights, whatever the loss.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from edl_jax import loss, training
from edl_jax.models.mlp import MLP

NUM_CLASSES = 10
DIMENSIONS = 20

_CLOUDS, _CENTRE_STD = 3, 0.85
_TEACHER_WIDTH, _TEACHER_GAIN = 32, 1.5


@dataclasses.dataclass(frozen=True)
class Regime:
    """How a student is trained."""

    examples: int
    """Training examples."""
    epochs: int
    """Passes over them."""
    hidden: tuple[int, ...] = (64,)
    """Hidden layers of the student."""
    batch_size: int = 50
    """Examples a step."""
    weight_decay: float = 5e-4
    """As in the presets of `downstream`."""
    held_out: int = 2000
    """Examples for validation, and as many for the test."""


class Tasks(NamedTuple):
    """T tasks: inputs `[T, N, DIMENSIONS]` float32 and labels `[T, N]` int32 of three splits."""

    x: jax.Array
    y: jax.Array
    x_validation: jax.Array
    y_validation: jax.Array
    x_test: jax.Array
    y_test: jax.Array


class Scores(NamedTuple):
    """What became of T students, each `[T]`."""

    accuracy: jax.Array
    nll: jax.Array
    train_accuracy: jax.Array
    validation_accuracy: jax.Array


def _clusters(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    centre_key, label_key, cloud_key, noise_key = jax.random.split(key, 4)
    centres = _CENTRE_STD * jax.random.normal(centre_key, (NUM_CLASSES, _CLOUDS, DIMENSIONS))
    y = jax.random.randint(label_key, (count,), 0, NUM_CLASSES)
    cloud = jax.random.randint(cloud_key, (count,), 0, _CLOUDS)
    return centres[y, cloud] + jax.random.normal(noise_key, (count, DIMENSIONS)), y


def _teacher(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    x_key, in_key, out_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (count, DIMENSIONS))
    inward = _TEACHER_GAIN / DIMENSIONS**0.5 * jax.random.normal(in_key, (DIMENSIONS, _TEACHER_WIDTH))
    logits = jnp.tanh(x @ inward) @ jax.random.normal(out_key, (_TEACHER_WIDTH, NUM_CLASSES))
    # Logits of equal mean and spread make every class about as frequent.
    logits = (logits - jnp.mean(logits, axis=0, keepdims=True)) / jnp.std(logits, axis=0, keepdims=True)
    return x, jnp.argmax(logits, axis=-1).astype(jnp.int32)


KINDS: dict[str, Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]] = {"clusters": _clusters, "teacher": _teacher}


@functools.partial(jax.jit, static_argnums=(1, 3))
def make_tasks(keys: jax.Array, kind: str, noise: jax.Array, regime: Regime) -> Tasks:
    """Return one task a key `[T]`; the same key gives the same task at every noise level.

    Args:
      keys: `[T]` PRNG keys.
      kind: name in `KINDS`.
      noise: probability that a training label is replaced by one of the other classes.
      regime: sizes of the splits.
    """
    n, m = regime.examples, regime.held_out

    def one(key: jax.Array) -> Tasks:
        task_key, flip_key, other_key = jax.random.split(key, 3)
        x, y = KINDS[kind](task_key, n + 2 * m)
        flip = jax.random.uniform(flip_key, (n,)) < noise
        other = (y[:n] + jax.random.randint(other_key, (n,), 1, NUM_CLASSES)) % NUM_CLASSES
        return Tasks(x[:n], jnp.where(flip, other, y[:n]), x[n : n + m], y[n : n + m], x[n + m :], y[n + m :])

    return jax.vmap(one)(keys)


@functools.partial(jax.jit, static_argnums=(0, 4))
def train_with(
    values: Callable[[jax.Array, jax.Array], jax.Array], lr: jax.Array, tasks: Tasks, key: jax.Array, regime: Regime
) -> Scores:
    """Train one student a task with SGD, Nesterov momentum 0.9, and half a cosine of the learning rate.

    Args:
      values: the loss, (logits, labels) -> values.
      lr: largest learning rate.
      tasks: T tasks.
      key: PRNG key of initial weights and batches, the same for all losses to be compared.
      regime: sizes and length.
    """
    count = tasks.y.shape[0]
    init_key, order_key = jax.random.split(key)
    student = MLP(num_classes=NUM_CLASSES, hidden=regime.hidden)
    steps = regime.examples // regime.batch_size
    schedule = training.warmup_cosine(1.0, steps * regime.epochs)
    optimizer = training.sgd(lambda step: lr * schedule(step), weight_decay=regime.weight_decay)

    def logits_of(params: Any, x: jax.Array) -> jax.Array:
        return jnp.asarray(student.apply(params, x[:, None, None, :], train=False))

    def objective(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.mean(values(logits_of(params, x), y))

    def step(carry: tuple, batch: jax.Array) -> tuple[tuple, None]:
        def one(params: Any, state: Any, x: jax.Array, y: jax.Array) -> tuple:
            updates, state = optimizer.update(jax.grad(objective)(params, x, y), state, params)
            return optax.apply_updates(params, updates), state

        params, state = carry
        return jax.vmap(one)(params, state, tasks.x[:, batch], tasks.y[:, batch]), None

    params = jax.vmap(lambda k: student.init(k, jnp.zeros((1, 1, 1, DIMENSIONS)), train=False))(
        jax.random.split(init_key, count)
    )
    # One order of the examples for all tasks: their examples are independent draws anyway.
    orders = jax.vmap(lambda k: jax.random.permutation(k, regime.examples))(jax.random.split(order_key, regime.epochs))
    batches = orders[:, : steps * regime.batch_size].reshape(-1, regime.batch_size)
    (params, _), _ = jax.lax.scan(step, (params, jax.vmap(optimizer.init)(params)), batches)

    def accuracy(params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = logits_of(params, x)
        return jnp.mean(jnp.argmax(logits, axis=-1) == y), jnp.mean(loss.cross_entropy(logits, y))

    test, nll = jax.vmap(accuracy)(params, tasks.x_test, tasks.y_test)
    train_accuracy, _ = jax.vmap(accuracy)(params, tasks.x, tasks.y)
    validation, _ = jax.vmap(accuracy)(params, tasks.x_validation, tasks.y_validation)
    return Scores(test, nll, train_accuracy, validation)
