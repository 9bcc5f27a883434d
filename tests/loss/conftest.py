"""Every registered loss, and a random learned one, each beside its NumPy reference."""

import jax.numpy as jnp
import loss_reference
import pytest
from loss_cases import PRIORS, Case, normal, random_artifact

from edl_jax import loss

RANDOM = "random artifact"


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
