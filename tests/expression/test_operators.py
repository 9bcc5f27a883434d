"""The operators one by one: values and slopes by SciPy, what protects them, the names the papers' sets map to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from edl_jax.loss import expression as ex
from edl_jax.loss.expression.operators import CODES

E = 1e-7
# Written from the papers' tables, not from the engine.
UNARY = {
    "neg": lambda x: -x,
    "square": lambda x: x * x,
    "ln": lambda x: np.log(np.abs(x)),
    "sqrt": lambda x: np.sqrt(np.abs(x)),
    "abs": np.abs,
    "sign": np.sign,
    "exp": np.exp,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "sin": np.sin,
    "sinh": np.sinh,
    "arcsinh": np.arcsinh,
    "arctan": np.arctan,
    "erf": special.erf,
    "erfc": special.erfc,
    "bessel_i0": special.i0,
    "bessel_i0e": special.i0e,
    "bessel_i1": special.i1,
    "bessel_i1e": special.i1e,
    "relu": lambda x: np.where(x > 0, x, 0),
    "min_zero": lambda x: np.where(x < 0, x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "inverse_abs": lambda x: 1 / (1 + np.abs(x)),
    "tanh_slope": lambda x: 1 / np.cosh(x) ** 2,
    "sigmoid_slope": lambda x: special.expit(x) * (1 - special.expit(x)),
    "log_clamp": lambda x: np.log(np.where(np.abs(x) > E, np.abs(x), E)),
    "sqrt_clamp": lambda x: np.sqrt(np.where(np.abs(x) > E, np.abs(x), E)),
    "log_shift": lambda x: np.log(np.abs(x) + E),
    "log10_shift": lambda x: np.log10(np.abs(x) + E),
    "softplus_shift": lambda x: np.log(1 + np.exp(x) + E),
    "inverse_shift": lambda x: 1 / (x + E),
}
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "power": lambda a, b: np.abs(a) ** b,  # b whole: below
    "max": lambda a, b: np.where(a > b, a, b),
    "min": lambda a, b: np.where(a < b, a, b),
    "aq": lambda a, b: a / np.sqrt(1 + b**2),
    "div_shift": lambda a, b: a / (b + E),
}
X = np.array([-3.1, -0.7, -2e-4, 1e-3, 0.4, 1.3, 5.2])


def test_every_operator_has_a_reference():
    assert {*UNARY, *BINARY} == {*ex.OPERATORS}
    assert len(CODES) == len(ex.OPERATORS) + len(ex.TERMINALS) + 1
    assert all(ex.OPERATORS[name].arity == 1 for name in UNARY)
    assert all(ex.OPERATORS[name].arity == 2 for name in BINARY)


def test_values_and_slopes_of_unary_operators():
    def both(x):
        one = jnp.ones_like(x)
        return {name: jax.jvp(ex.OPERATORS[name].function, (x,), (one,)) for name in UNARY}

    with jax.enable_x64(True):
        found = jax.jit(both)(X)
    for name, function in UNARY.items():
        step = 1e-5 * np.abs(X)
        slope = (function(X + step) - function(X - step)) / (2 * step)
        np.testing.assert_allclose(found[name][0], function(X), rtol=1e-12, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(found[name][1], slope, rtol=1e-6, atol=1e-6, err_msg=name)


def test_values_and_slopes_of_binary_operators():
    a, b = (v.ravel() for v in np.meshgrid(X, X[::-1] + 0.01))

    def both(a, b):
        return {
            name: jax.vjp(f := ex.OPERATORS[name].function, a, b)[1](jnp.ones_like(a)) + (f(a, b),) for name in BINARY
        }

    with jax.enable_x64(True):
        found = jax.jit(both)(a, b)
    for name, function in BINARY.items():
        da, db = 1e-6 * np.abs(a), 1e-6 * np.abs(b)
        expected = (
            (function(a + da, b) - function(a - da, b)) / (2 * da),
            (function(a, b + db) - function(a, b - db)) / (2 * db),
            function(a, b),
        )
        for actual, wanted, tolerance in zip(found[name], expected, (1e-5, 1e-5, 1e-12), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance, err_msg=name)


def test_a_power_with_a_whole_exponent_keeps_the_sign():
    with jax.enable_x64(True):
        power = ex.OPERATORS["power"].function
        a = jnp.array([-2.0, -2.0, -2.0, -2.0, 2.0, 0.0, 0.0])
        b = jnp.array([3.0, 2.0, -1.0, 0.5, -3.0, 0.0, 0.7])
        np.testing.assert_allclose(power(a, b), [-8.0, 4.0, -0.5, 2**0.5, 0.125, 1.0, 0.0], rtol=1e-14)
        np.testing.assert_allclose(jax.grad(power)(-2.0, 3.0), 12.0, rtol=1e-14)


@pytest.mark.parametrize(
    "name", ["ln", "sqrt", "div", "power", *(n for n in ex.OPERATORS if n.endswith(("_clamp", "_shift")))]
)
def test_singular_points_are_finite_in_single_precision(name):
    operator = ex.OPERATORS[name]
    points = np.array([0.0, -0.0, 1e-38, -1e-38, 1e-20, 1e-7, -1e-7, 1.0], np.float32)
    arguments = [points] if operator.arity == 1 else [v.ravel() for v in np.meshgrid(points, points)]
    if name == "power":
        arguments = [
            v.ravel() for v in np.meshgrid(points, np.array([-2.0, -1.0, -0.5, 0.0, 0.3, 1.0, 3.0], np.float32))
        ]
    value, back = jax.vjp(operator.function, *map(jnp.asarray, arguments))
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(back(jnp.ones_like(value))))


def test_plain_functions_are_plain_where_float32_allows():
    x = np.array([1e-29, 1e-14, -1e-14], np.float32)
    np.testing.assert_allclose(ex.OPERATORS["ln"].function(x), np.log(np.abs(x.astype(float))), rtol=1e-6)
    one = np.ones(2, np.float32)
    np.testing.assert_allclose(ex.OPERATORS["div"].function(one, x[1:]), [1e14, -1e14], rtol=1e-6)


def test_softplus_does_not_overflow():
    value, slope = jax.value_and_grad(ex.OPERATORS["softplus_shift"].function)(1e4)
    assert (value, slope) == (1e4, 1.0)


@pytest.mark.parametrize("name", ["exp", "sinh", "bessel_i0", "bessel_i1"])
def test_what_grows_stays_finite(name):
    x = jnp.array([-1e30, -1e3, 1e3, 1e30])
    value, back = jax.vjp(ex.OPERATORS[name].function, x)
    assert jnp.all(jnp.isfinite(value))
    assert jnp.all(back(jnp.ones(4))[0] == 0.0)
