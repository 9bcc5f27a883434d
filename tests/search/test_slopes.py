"""Slopes of programs at points: those of the engine's own evaluation, and gradients in the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax.core.errors import UserError
from edl_jax.loss.expression import Inputs, compile_function, compile_program, evomal
from edl_jax.search.slopes import program_slopes, tape_of_programs

OPERATORS = tuple(evomal.OPERATORS.values())
TREES = [
    evomal.from_tree(text)
    for text in (
        "mul(y, log(p))",
        "square(sub(y, p))",
        "tanh(sub(log(p), mul(y, square(add(y, p)))))",
        "div(min(sqrt(abs(sub(p, y))), max(p, -1)), add(mul(1, p), sign(y)))",
        "p",
        "mul(sub(y, p), sub(y, p))",
    )
]
LENGTH = 16


def stacked(trees):
    return jax.tree.map(lambda *x: np.stack(x), *[compile_program(tree, LENGTH) for tree in trees])


def by_the_engine(weights, tree, y, u):
    """Return slopes by forward-mode differentiation of the expression's own function."""

    def values(u):
        return compile_function(tree, weights[: tree.size])(Inputs(y, jnp.exp(u), u, jnp.log(-jnp.expm1(u))))

    return jax.jvp(values, (u,), (jnp.ones_like(u),))[1]


def test_slopes_and_gradients_are_the_engines(key):
    programs = stacked(TREES)
    keys = jax.random.split(key, 3)
    u = -jnp.exp(jax.random.uniform(keys[0], (40,), minval=-6.0, maxval=2.0))
    y = (jnp.arange(40) % 3 == 0).astype(jnp.float32)
    weights = 1.0 + 0.3 * jax.random.normal(keys[1], programs.weights.shape)
    cotangents = jax.random.normal(keys[2], (len(TREES), 40))
    tape = jax.tree.map(jnp.asarray, tape_of_programs(programs, OPERATORS))

    def ours(weights, u):
        return jax.lax.map(lambda element: program_slopes(OPERATORS, *element, y, u), (weights, tape))

    def theirs(weights, u):
        return jnp.stack([by_the_engine(w, tree, y, u) for w, tree in zip(weights, TREES, strict=True)])

    def both(function):
        found, pull = jax.vjp(function, weights, u)
        return found, *pull(cotangents)

    found, gradient, gradient_u = jax.jit(both, static_argnums=0)(ours)
    expected, expected_gradient, expected_u = jax.jit(both, static_argnums=0)(theirs)
    np.testing.assert_allclose(gradient_u, expected_u, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # A root's weight does nothing, in a program of one node too.
    np.testing.assert_allclose(gradient[:, 1:], expected_gradient[:, 1:], rtol=1e-4, atol=1e-4)
    assert not gradient[:, 0].any()
    assert np.abs(gradient[3]).max() > 0.1


def test_tape_holds_operators_alone():
    tape = tape_of_programs(stacked(TREES), OPERATORS)
    assert tape.op.shape == (len(TREES), 16)
    assert tape.length.tolist() == [2, 2, 6, 9, 0, 3]
    assert tape_of_programs(stacked(TREES), OPERATORS, 24).op.shape == (len(TREES), 24)


def test_bad_input():
    with pytest.raises(UserError, match="9 operators does not fit a tape of 4"):
        tape_of_programs(stacked(TREES), OPERATORS, 4)
    with pytest.raises(UserError, match="operator tanh is not among those of this search: sub, log_clamp"):
        tape_of_programs(stacked(TREES[2:3]), ("sub", "log_clamp", "mul", "square", "add"))
