"""What the tests of the losses share: a loss beside its reference, random inputs, a random learned loss."""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import loss

# Numbers of classes; every one compiles each program anew.
SIZES = [5, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 3, 10, 100, 1000))]
TWO_CLASSES = {"asymmetric"}  # the losses that take no other number of them
EQUAL_CLASSES = {"balanced_softmax", "logit_adjustment"}  # cross-entropy by default, when no class is rare
PRIORS = Path(loss.__file__).parent / "artifacts" / "priors"

# Knots apart from each other and a tail that begins among ordinary predictions, so that both are tested.
CALIBRATION = loss.Calibration(
    num_classes=(2.0, 10.0, 100.0, 1000.0),
    scale=(1.5, 2.0, 0.7, 1.2),
    shift=(0.3, -0.2, 0.1, 0.4),
    tail_log_p=-4.0,
    tail_slope=-0.8,
)


ROWS = 32  # of every batch that `Family.values` and `Family.gradients` give to a program


@dataclass(frozen=True, eq=False)
class Family:
    """Losses that are compiled as one program, name -> values: together they take a quarter of the time."""

    losses: dict[str, loss.Loss]

    def plain(self, logits, labels, **kwargs):
        return {name: function(logits, labels, **kwargs) for name, function in self.losses.items()}

    @functools.cached_property
    def function(self):
        return jax.jit(self.plain, static_argnames="axis")

    @functools.cached_property
    def gradient(self):
        """Return the program of the gradients of the summed losses."""

        def gradients(logits, labels, **kwargs):
            return {name: jax.grad(total)(logits, f, labels, **kwargs) for name, f in self.losses.items()}

        return jax.jit(gradients)

    def values(self, logits, labels, **kwargs):
        """Return the values `[N]` of each loss for logits `[N, C]`, N up to `ROWS`: NumPy, by its name."""
        return padded(self.function, logits, labels, **kwargs)

    def gradients(self, logits, labels, **kwargs):
        """Return the gradients `[N, C]` of each loss in the same way."""
        return padded(self.gradient, logits, labels, **kwargs)


def total(logits, function, labels, **kwargs):
    """Return the sum of a loss over a batch, in float32 at least."""
    values = function(logits, labels, **kwargs)
    return jnp.sum(values.astype(jnp.promote_types(values.dtype, jnp.float32)))


def padded(program, *batch, where=None, **kwargs):
    """Call a program with the batch filled up to `ROWS` by its last row: batches of any length are one compilation."""
    length = len(batch[0])
    rows = np.minimum(np.arange(ROWS), length - 1)
    if where is not None:
        kwargs["where"] = np.asarray(where)[rows]
    out = program(*(np.asarray(x)[rows] for x in batch), **kwargs)
    return jax.tree.map(lambda x: np.asarray(x)[:length], out)


def close(actual, expected, tolerance=2e-5, **kwargs):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, **kwargs)


def all_close(actual, expected, tolerance=2e-5):
    """Compare what belongs to each loss, by its name."""
    assert actual.keys() == expected.keys()
    for name, values in actual.items():
        close(values, expected[name], tolerance, err_msg=name)


def one_hot(labels, num_classes=5):
    return np.eye(num_classes)[np.asarray(labels)]


def normal(seed, shape, scale=1.0):
    """Return float32 normal numbers, drawn without JAX: nothing to compile."""
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def soft_labels(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1]), jnp.float32)


def integers(seed, shape, stop):
    return jnp.asarray(np.random.default_rng(seed).integers(0, stop, shape), jnp.int32)


def random_artifact(seed, *, hidden=(5, 4), activation="silu", num_classes=None, metadata=None):
    """Return a learned loss with random kernels and (unlike a fresh network) random biases."""
    draw = np.random.default_rng(seed).standard_normal
    widths = (3, *hidden, 1)
    params = {
        f"Dense_{i}": {
            "kernel": np.asarray(draw((inputs, outputs)) / np.sqrt(inputs), np.float32),
            "bias": np.asarray(0.3 * draw(outputs), np.float32),
        }
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths))
    }
    network = loss.NetworkConfig(kind="per_class", hidden=hidden, activation=activation)
    return loss.Artifact(network, params, CALIBRATION, num_classes, metadata or {})
