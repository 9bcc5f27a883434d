"""The pull of losses beside cross-entropy's, and the groups of losses that are known."""

import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.expression import parse
from edl_jax.search import shape
from edl_jax.search.loss_tables import table_of_loss
from edl_jax.search.program_tables import tables_of_expressions

# Of EvoMAL's operators, for which one program serves the tests of the search.
FORMULAS = {
    "-y*ln(p)": shape.ENTROPY,
    "y*(1 - p) - y*ln(p)": shape.ENTROPY,  # Poly-1
    "-y*(2 - p)*ln(p)": shape.ENTROPY,
    "-y*square(1 - p)*ln(p)": shape.FOCAL,
    "-y*sqrt_clamp(1 - p)*ln(p)": shape.FOCAL,
    "-(0.9*y + 0.01)*ln(p)": shape.SMOOTHING,
    "abs(log_clamp(1.2*y*p))": shape.SMOOTHING,
    "square(log_clamp(1.1*y*p))": shape.SMOOTHING,
    "square(y - p)": shape.OTHER,
    "abs(y - p)": shape.OTHER,
    "max(0.1, abs(y - p))": shape.OTHER,  # a plateau is no minimum
    "y*ln(p)": shape.OTHER,  # pushes
    "y + p": shape.OTHER,  # does nothing
    "square(square(square(square(square(square(log_clamp(p*y)))))))": shape.OTHER,  # not finite
}
ZOO = {
    "cross_entropy": shape.ENTROPY,
    "poly1": shape.ENTROPY,
    "edl": shape.ENTROPY,
    "focal": shape.FOCAL,
    "label_smoothing": shape.SMOOTHING,
    "ace": shape.SMOOTHING,
    "baikal": shape.SMOOTHING,
    "brier": shape.OTHER,
    "mae": shape.OTHER,
    "gce": shape.OTHER,
}


@pytest.fixture(scope="module")
def tables():
    found = tables_of_expressions([parse(formula) for formula in FORMULAS])
    return dict(zip(FORMULAS, found, strict=True))


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_group_of_a_formula(tables, formula):
    assert shape.group(tables[formula], 10) == FORMULAS[formula]


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_group_of_a_loss_of_the_zoo(name):
    assert shape.group(table_of_loss(loss.get(name)), 10) == ZOO[name]


def test_numbers_of_known_losses(tables):
    plain = shape.describe(tables["-y*ln(p)"], 10)
    np.testing.assert_allclose([plain.scale, plain.r_squared], 1.0, atol=1e-6)
    assert plain.minimum is None
    smoothed = shape.describe(tables["-(0.9*y + 0.01)*ln(p)"], 10)
    np.testing.assert_allclose([smoothed.minimum, smoothed.scale], [0.91, 0.895], atol=2e-3)
    kinked = shape.describe(tables["abs(log_clamp(1.2*y*p))"], 10)
    np.testing.assert_allclose([kinked.minimum, kinked.r_squared], [1.0 / 1.2, 0.99], atol=5e-3)
    soft = shape.describe(tables["square(log_clamp(1.1*y*p))"], 10)
    assert soft.minimum == pytest.approx(1.0 / 1.1, abs=1e-3)
    assert shape.describe(tables["y*ln(p)"], 10).scale == pytest.approx(-1.0, abs=1e-6)
    assert np.isnan(shape.describe(np.full_like(tables["y*ln(p)"], np.nan), 10).scale)


@pytest.mark.parametrize("factor", [1e-20, 7.0, 1e20])
def test_the_scale_changes_no_group(tables, factor):
    for formula in ("-y*square(1 - p)*ln(p)", "abs(log_clamp(1.2*y*p))", "square(y - p)"):
        one, other = (shape.describe(np.float32(k) * tables[formula], 10) for k in (1.0, factor))
        assert other.group == FORMULAS[formula]
        assert other.scale == pytest.approx(factor * one.scale, rel=1e-6)


def test_the_pull_is_that_of_the_loss(tables):
    gap, found = shape.profile(tables["-y*ln(p)"], 5, points=101)
    p_t = np.exp(gap) / (np.exp(gap) + 4.0)
    np.testing.assert_allclose(found, 1.0 - p_t, atol=1e-6)
    focal = shape.pull(tables["-y*square(1 - p)*ln(p)"], np.log(p_t / (1.0 - p_t)), 3)
    q = 1.0 - p_t
    np.testing.assert_allclose(focal, q**3 - 2.0 * q**2 * p_t * np.log(p_t), atol=2e-4)


def test_a_loss_of_one_class_has_no_shape(tables):
    with pytest.raises(UserError, match="num_classes is 1, expected at least 2"):
        shape.group(tables["y + p"], 1)
