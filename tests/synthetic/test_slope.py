"""The slope that the ranking objective asks for: docs/theory.md, section 2."""

import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax.core.errors import UserError
from edl_jax.synthetic import MixtureConfig
from edl_jax.synthetic.optimum import solve
from edl_jax.synthetic.slope import slope_grid, slope_residual

STEERED = MixtureConfig(
    uniform=0.05, confident_right=0.02, confident_wrong=0.1, boundary=0.08, near_uniform=0.05, log_uniform=0.7
)


def residual(mixture, severity, beta, margin, change=lambda x, value, slope: (value, slope)):
    grid = slope_grid(mixture, severity, 10)
    curve = solve(mixture, severity, beta=beta, margin=margin).curve
    value, slope = change(grid.log_p, curve(grid.log_p), curve.slope(grid.log_p))
    columns = jnp.asarray(value, jnp.float32), jnp.asarray(slope, jnp.float32)
    return np.asarray(slope_residual(grid, *columns, beta=beta, margin=margin))


@pytest.mark.parametrize(
    ("mixture", "severity", "beta", "margin"),
    [
        (MixtureConfig(), "error", 1.0, 0.0),
        (MixtureConfig(), "error", 1.0, 0.3),
        (MixtureConfig(), "error", 10.0, 1.0),
        (MixtureConfig(), "nll", 1.0, 0.5),
        (STEERED, "error", 1.0, 0.0),
    ],
)
def test_the_optimum_has_the_slope_that_is_asked_for(mixture, severity, beta, margin):
    assert np.max(np.abs(residual(mixture, severity, beta, margin))) < 1e-3


def test_it_is_free_of_scale_and_offset():
    other = residual(MixtureConfig(), "error", 1.0, 0.0, lambda x, value, slope: (5.0 * value - 3.0, 5.0 * slope))
    np.testing.assert_allclose(other, residual(MixtureConfig(), "error", 1.0, 0.0), atol=1e-5)


def test_a_slope_that_is_off_is_seen_where_it_is():
    """A wave too small for R^2 (0.99999) to see is 5 % of the slope."""

    def wave(x, value, slope):
        size = 0.05 * float(np.mean(np.abs(slope))) / 10.0
        return value + size * np.sin(10.0 * x), slope + 10.0 * size * np.cos(10.0 * x)

    found = residual(MixtureConfig(), "error", 1.0, 0.0, wave)
    assert 0.03 < np.max(np.abs(found)) < 0.15


def test_a_constant_loss_has_none():
    grid = slope_grid(MixtureConfig(), "error", 10)
    np.testing.assert_allclose(slope_residual(grid, jnp.ones(64), jnp.zeros(64)), -1.0)


@pytest.mark.parametrize("severity", ["brier", "margin"])
def test_the_law_must_be_known(severity):
    with pytest.raises(UserError, match="severity error or nll"):
        slope_grid(MixtureConfig(), severity, 10)
