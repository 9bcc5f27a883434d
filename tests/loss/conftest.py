"""Every registered loss, a random learned one and a formula, each beside its NumPy reference."""

import jax.numpy as jnp
import loss_reference
import pytest
from loss_cases import PRIORS, Case, Family, normal, random_artifact
from network_cases import reference as reference_of

from edl_jax import loss

RANDOM = "random artifact"
FORMULA = "formula"
LEARNED = sorted({*loss.names()} - {*loss_reference.CLASSIC})


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    functions = {name: loss.get(name) for name in loss_reference.CLASSIC}
    classic = Family(functions | {FORMULA: loss.expression_loss("-y * (1 - p)^2 * ln(p) + 0.25 * (p - y)^2")})
    cases = {name: Case(name, classic, reference) for name, reference in loss_reference.CLASSIC.items()}
    cases[FORMULA] = Case(FORMULA, classic, lambda z, y: loss_reference.focal(z, y) + loss_reference.brier(z, y) / 4)
    random = tmp_path_factory.mktemp("loss") / "random.safetensors"
    loss.save(random_artifact(7, hidden=(4,)), random)
    for name in (*LEARNED, RANDOM):
        path = random if name == RANDOM else PRIORS / f"{name}.safetensors"
        plain = loss.load(path) if name == RANDOM else loss.get(name)
        cases[name] = Case(
            name, Family({name: plain}), reference_of(loss.load_artifact(path)), loss.load_artifact(path)
        )
    return cases


@pytest.fixture(scope="session", params=[*loss_reference.CLASSIC, FORMULA, *LEARNED, RANDOM])
def case(request, cases):
    return cases[request.param]


@pytest.fixture(scope="session", params=["cross_entropy", *LEARNED, RANDOM])
def family(request, cases):
    """Return all the classic losses, or a learned one alone."""
    return cases[request.param].family


@pytest.fixture
def batch():
    """Return logits `[6, 5]` with gaps up to about 15, and labels `[6]`."""
    return normal(3, (6, 5), 5.0), jnp.array([0, 4, 2, 2, 1, 3])
