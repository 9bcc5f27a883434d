"""The engine: against sympy, interpreted against straight-line, one compilation a length, no leaked NaN."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from expression_cases import GENOME_OPERATORS, random_expression, reference, smooth, suits_sympy

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex

Y = np.array([0.0, 1.0, 0.0, 1.0, 0.3, 1.0])
P = np.array([0.03, 0.11, 0.37, 0.62, 0.81, 0.96])


def inputs(y=Y, p=P):
    return ex.Inputs.of(jnp.asarray(y), jnp.asarray(p))


def make_engine():
    """Return a program of its own: (program, y, p) -> values and slopes in p, elementwise."""

    @jax.jit
    def engine(program, y, p):
        def total(p):
            values = ex.evaluate(program, ex.Inputs.of(y, p))
            return jnp.sum(values), values

        slopes, values = jax.grad(total, has_aux=True)(p)
        return values, slopes

    return engine


def nudge(rng, expression, weights):
    """Return weights a rounding away; those of constants stay, as an exponent may be a whole number."""
    noise = [0.0 if node.name == "constant" else rng.normal(0.0, 1e-14) for node in expression.nodes]
    return (np.ones(expression.size) if weights is None else np.asarray(weights)) * (1.0 + np.asarray(noise))


def check_against_sympy(count, lengths, seed, with_weights=False):
    """Compare `count` random expressions, each operator in at least two of them."""
    rng, engine = np.random.default_rng(seed), make_engine()
    compared, seen = 0, collections.Counter()
    with jax.enable_x64(True):
        for i in range(count):
            length = lengths[i % len(lengths)]
            genome = i % 4 < 2
            # The plain functions have singular points: the class that is not the true one gets a little of the label.
            y = Y if genome else np.maximum(Y, 0.02)
            operators = GENOME_OPERATORS if genome else tuple(ex.OPERATORS)
            while not suits_sympy(expression := random_expression(rng, length, operators, (1.0, -1.0, 0.5, -2.25))):
                pass
            weights = None
            if with_weights and "power" not in expression.names and expression.height < 20:
                weights = rng.normal(1.0, 0.5, expression.size).tolist()
            function = reference(expression, weights)
            expected = function(y, P)
            slopes, trusted = smooth(expected, function, y, P)
            found, found_slopes = engine(ex.compile_program(expression, length, weights), y, P)
            nudged, _ = engine(ex.compile_program(expression, length, nudge(rng, expression, weights)), y, P)
            trusted &= np.abs(nudged - found) < 1e-8 * (1.0 + np.abs(found))  # not the sine of something huge
            message = str(expression)
            np.testing.assert_allclose(found[trusted], expected[trusted], rtol=1e-8, atol=1e-8, err_msg=message)
            np.testing.assert_allclose(found_slopes[trusted], slopes[trusted], rtol=1e-5, atol=1e-5, err_msg=message)
            compared += np.sum(trusted)
            seen.update(expression.names)
    assert compared > 0.9 * count * Y.size
    assert min(seen[name] for name in ex.OPERATORS) >= 2


def test_random_expressions_are_those_of_sympy(compilations):
    with compilations() as counts:
        check_against_sympy(150, (8, 32), seed=0)
    assert counts["jit(engine)"] == 2  # one for each length


@pytest.mark.slow
def test_a_thousand_random_expressions_are_those_of_sympy():
    check_against_sympy(500, (8, 32), seed=0)


@pytest.mark.slow
def test_many_weighted_random_expressions_are_those_of_sympy(compilations):
    with compilations() as counts:
        check_against_sympy(3000, (4, 12, 16, 24, 32), seed=1, with_weights=True)
    assert counts["jit(engine)"] == 5


def test_static_is_interpreted():
    rng = np.random.default_rng(2)
    expressions = [random_expression(rng, 10) for _ in range(12)]
    weights = [rng.normal(1.0, 0.3, e.size) for e in expressions]

    @jax.jit
    def static(y, p):
        return [ex.compile_function(e, w)(ex.Inputs.of(y, p)) for e, w in zip(expressions, weights, strict=True)]

    engine = make_engine()
    with jax.enable_x64(True):
        for e, w, values in zip(expressions, weights, static(Y, P), strict=True):
            interpreted, _ = engine(ex.compile_program(e, 12, w), Y, P)
            np.testing.assert_allclose(values, interpreted, rtol=1e-12, err_msg=str(e))


def test_gradients_of_weights_are_finite_differences():
    expression = ex.evomal.from_tree("sub(mul(y, log(p)), div(tanh(square(p)), max(y, p)))")
    size = expression.size
    weights = np.random.default_rng(3).normal(1.0, 0.2, size)
    program = ex.compile_program(expression, 16)

    # Known by all operators in the tests above: here those of the expression compile sooner.
    operators = ex.operators_of([expression])

    def interpreted(weights):
        padded = jnp.concatenate([weights, jnp.ones(16 - size)])
        return jnp.sum(ex.evaluate(program._replace(weights=padded), inputs(), operators))

    def static(weights):
        return jnp.sum(ex.compile_function(expression, weights)(inputs()))

    with jax.enable_x64(True):
        function = jax.jit(jax.value_and_grad(interpreted))
        _, gradient = function(weights)
        steps = 1e-6 * np.eye(size)
        expected = [(function(weights + s)[0] - function(weights - s)[0]) / 2e-6 for s in steps]
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)
        assert gradient[0] == 0.0  # the root has no edge
        np.testing.assert_allclose(jax.jit(jax.grad(static))(weights), gradient, rtol=1e-10)
        forward = jax.jit(jax.jacfwd(interpreted))(weights)
        np.testing.assert_allclose(forward, gradient, rtol=1e-10)


def test_a_stack_of_programs_leaks_no_nan():
    """Each operator alone, at p = 0 and 1: beside it, every other operator sees the same arguments."""
    hard = ex.parse("1000*p")  # exp and its like would overflow, others have no slope left
    expressions = [ex.apply(name, *[hard, ex.P][: operator.arity]) for name, operator in ex.OPERATORS.items()]
    expressions += [
        ex.parse(f)
        for f in (
            "y/p",
            "sqrt(y)*ln(y)",
            "ln(p)",
            "(p - y)^-1",
            "p^0.5",
            "aq(y, sqrt(p))",
            "min(1e3*p, 500*p)",
            "-(1e30*p)",
        )
    ]
    programs = [ex.compile_program(e, 8) for e in expressions]
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *programs)
    y, p = jnp.array([0.0, 1.0, 0.0, 1.0, 0.0]), jnp.array([0.0, 0.0, 1.0, 1.0, 0.5])

    def value(p, weights, program):
        return jnp.sum(ex.evaluate(program._replace(weights=weights), ex.Inputs.of(y, p)))

    @jax.jit
    def gradients(stacked):
        # The gradient of the vmapped program: the other order selects among slopes, and leaks less easily.
        def total(p, weights):
            values = jax.vmap(value)(p, weights, stacked)
            return jnp.sum(values), values

        each_p = jnp.broadcast_to(p, (len(programs), 5))
        slopes, values = jax.grad(total, (0, 1), has_aux=True)(each_p, stacked.weights)
        return values, slopes

    values, (slopes, of_weights) = gradients(stacked)
    for i, expression in enumerate(expressions):
        finite = (np.isfinite(values[i]), np.isfinite(slopes[i]).all(), np.isfinite(of_weights[i]).all())
        assert all(finite), (str(expression), values[i], slopes[i], of_weights[i])
    alone = [jax.jit(value)(p, program.weights, program) for program in programs[:5]]
    np.testing.assert_allclose(values[:5], alone, rtol=1e-6)


def test_operators_that_are_left_out_are_nan():
    chosen = ex.operators_of([ex.parse("y*tanh(p)"), ex.parse("y + p")])
    assert chosen == ("add", "mul", "tanh")
    known, other = (
        ex.evaluate(ex.compile_program(ex.parse(f), 4), inputs(), chosen) for f in ("y*tanh(p)", "y*sin(p)")
    )
    np.testing.assert_allclose(known, Y * np.tanh(P), rtol=1e-6)
    assert np.isnan(other).all()
    with pytest.raises(UserError, match="unknown operator 'sinn': did you mean sin"):
        ex.evaluate(ex.compile_program(ex.Y, 4), inputs(), ("sinn",))


def test_shape_and_dtype_are_those_of_the_inputs():
    y, p = jnp.ones((2, 3, 5)), jnp.full((2, 3, 5), 0.2)
    one = ex.parse("1 + 1")
    for values in (
        ex.compile_function(one)(ex.Inputs.of(y, p)),
        ex.evaluate(ex.compile_program(one, 4), ex.Inputs.of(y, p)),
    ):
        assert values.shape == (2, 3, 5)
        assert values.dtype == jnp.float32
        assert np.all(values == 2.0)
    with pytest.raises(UserError, match=r"weights have shape \(2,\), expected \(3,\)"):
        ex.compile_function(one, [1.0, 1.0])
