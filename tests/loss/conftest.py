"""Every registered loss, a random learned one and a formula, compiled together, each beside its NumPy reference."""

import jax.numpy as jnp
import loss_reference
import pytest
from loss_cases import PRIORS, TWO_CLASSES, Family, normal, random_artifact
from network_cases import reference as reference_of

from edl_jax import loss

RANDOM = "random artifact"
FORMULA = "formula"
LEARNED = sorted({*loss.names()} - {*loss_reference.CLASSIC})
# Those of two classes alone have tests of their own.
ANY_C = {name: reference for name, reference in loss_reference.CLASSIC.items() if name not in TWO_CLASSES}
# One of each way in which a loss is built: from `targets`, from a formula, from a network; one that iterates.
WAYS = ["cross_entropy", "bi_tempered", FORMULA, RANDOM]


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """Return the learned losses: name -> artifact."""
    random = tmp_path_factory.mktemp("loss") / "random.safetensors"
    loss.save(random_artifact(7, hidden=(4,)), random)
    return {
        name: loss.load_artifact(random if name == RANDOM else PRIORS / f"{name}.safetensors")
        for name in (*LEARNED, RANDOM)
    }


@pytest.fixture(scope="session")
def every(artifacts):
    """Return every loss."""
    formula = loss.expression_loss("-y * (1 - p)^2 * ln(p) + 0.25 * (p - y)^2")
    named = {name: loss.get(name) for name in (*ANY_C, *LEARNED)}
    return Family(named | {FORMULA: formula, RANDOM: loss.learned_loss(artifacts[RANDOM])})


@pytest.fixture(scope="session")
def ways(every):
    """Return a loss of each way in which one is built, for what the code that they share does."""
    return Family({name: every.losses[name] for name in WAYS})


@pytest.fixture(scope="session")
def references(artifacts):
    """Return the function of float64 logits `[N, C]` and label probabilities `[N, C]` that each loss is."""
    formula = {FORMULA: lambda z, y: loss_reference.focal(z, y) + loss_reference.brier(z, y) / 4}
    return ANY_C | formula | {name: reference_of(artifact) for name, artifact in artifacts.items()}


@pytest.fixture
def batch():
    """Return logits `[6, 5]` with gaps up to about 15, and labels `[6]`."""
    return normal(3, (6, 5), 5.0), jnp.array([0, 4, 2, 2, 1, 3])
