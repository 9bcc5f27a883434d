"""Every registered loss, and a random learned one, each beside its NumPy reference."""

import contextlib
import functools
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import loss_reference
import numpy as np
import pytest

from edl_jax import loss

PRIORS = Path(loss.__file__).parent / "priors"
RANDOM = "random artifact"

# Knots apart from each other and a tail that begins among ordinary predictions, so that both are tested.
CALIBRATION = loss.Calibration(
    num_classes=(2.0, 10.0, 100.0, 1000.0),
    scale=(1.5, 2.0, 0.7, 1.2),
    shift=(0.3, -0.2, 0.1, 0.4),
    tail_log_p=-4.0,
    tail_slope=-0.8,
)


@dataclass(frozen=True)
class Case:
    """A loss under test, as it is and jitted (which spares the tests hundreds of small compilations)."""

    name: str
    plain: loss.Loss
    reference: loss_reference.Reference
    artifact: loss.Artifact | None = None

    @functools.cached_property
    def function(self):
        return jax.jit(self.plain, static_argnames="axis")


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
    network = loss.NetworkConfig(hidden=hidden, activation=activation)
    return loss.Artifact(network, params, CALIBRATION, num_classes, metadata or {})


@pytest.fixture(scope="session", params=[*loss.names(), RANDOM])
def case(request, tmp_path_factory):
    name = request.param
    if name in loss_reference.CLASSIC:
        return Case(name, loss.get(name), loss_reference.CLASSIC[name])
    path = PRIORS / f"{name}.safetensors"
    if name == RANDOM:
        path = tmp_path_factory.mktemp("loss") / "random.safetensors"
        loss.save(random_artifact(7, hidden=(4,)), path)
    plain = loss.load(path) if name == RANDOM else loss.get(name)
    return Case(name, plain, loss_reference.learned(path), loss.load_artifact(path))


@pytest.fixture
def batch():
    """Return logits `[6, 5]` with gaps up to about 15, and labels `[6]`."""
    return normal(3, (6, 5), 5.0), jnp.array([0, 4, 2, 2, 1, 3])


@pytest.fixture
def compilations():
    """Return a context manager that yields the list of names of functions compiled inside it."""

    @contextlib.contextmanager
    def record():
        names: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record):
                message = record.getMessage()
                if message.startswith("Compiling jit("):
                    names.append(message.removeprefix("Compiling jit(").split(")")[0])

        logger, handler = logging.getLogger("jax._src.interpreters.pxla"), Handler()
        logger.addHandler(handler)
        try:
            with jax.log_compiles():
                yield names
        finally:
            logger.removeHandler(handler)

    return record
