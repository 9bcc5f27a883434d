"""Expressions as losses: those of the literature, labels, masks, gaps between logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from expression_cases import FORMULAS

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex

RNG = np.random.default_rng(5)
LOGITS = jnp.asarray(4.0 * RNG.standard_normal((6, 5)), jnp.float32)
LABELS = jnp.array([0, 4, 2, 2, 1, 3])
SOFT = jnp.asarray(RNG.dirichlet(np.ones(5), 6), jnp.float32)
AFFINE = {*FORMULAS} - {"brier", "mae"}


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [*FORMULAS])
def test_losses_of_the_literature(name):
    function, zoo = ex.expression_loss(FORMULAS[name]), loss.get(name)
    weights = jnp.array([0.5, 2.0, 0.0, 1.0, 3.0])
    for labels in (LABELS, SOFT):
        close(function(LOGITS, labels), zoo(LOGITS, labels))
        close(function(LOGITS, labels, class_weights=weights), zoo(LOGITS, labels, class_weights=weights))


@pytest.mark.parametrize("name", [*FORMULAS])
def test_gradients_of_the_literature(name):
    gradients = [
        jax.jit(jax.grad(lambda z, f=f: jnp.sum(f(z, LABELS))))(LOGITS)
        for f in (ex.expression_loss(FORMULAS[name]), loss.get(name))
    ]
    close(*gradients)


def test_baikal_is_baikal():
    """The zoo divides by the number of classes."""
    close(ex.expression_loss("y/p - ln(p)")(LOGITS, LABELS) / 5, loss.baikal(LOGITS, LABELS), 1e-4)


def test_axis_and_masks():
    function = ex.expression_loss("(p - y)^2 - y*log(p)/(1 - p)")
    values = function(LOGITS, LABELS)
    close(function(LOGITS.T, LABELS, axis=0), values)
    close(function(LOGITS.reshape(2, 3, 5), LABELS.reshape(2, 3)), values.reshape(2, 3))
    where = jnp.array([True, False, True, True, False, True])
    close(function(jnp.where(where[:, None], LOGITS, jnp.nan), LABELS, where=where), jnp.where(where, values, 0.0))
    wider = jnp.concatenate([LOGITS, jnp.full((6, 2), -jnp.inf)], axis=-1)
    close(function(wider, LABELS), values)
    assert jnp.isnan(jax.jit(function)(LOGITS, LABELS.at[2].set(7))[2])
    assert function(LOGITS.astype(jnp.bfloat16), LABELS).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="labels have shape"):
        function(LOGITS, LABELS[:3])


@pytest.mark.parametrize(
    "formula",
    [*FORMULAS.values(), "y/p - ln(p)", "-(1-y)*ln(1-p)", "sqrt(p)*ln(y + p)", "exp(1/(p + 0.02))*y", "y/p^2"],
)
def test_masked_classes_and_huge_gaps_are_finite(formula):
    function = ex.expression_loss(formula)
    gaps = jnp.array([0.0, 20.0, 50.0, 100.0, 1e4])
    logits = jnp.zeros((5, 4)).at[:, 1].set(gaps).at[:, 3].set(-jnp.inf)
    for true in (0, 1):
        values, back = jax.vjp(lambda z, true=true: function(z, jnp.full(5, true)), logits)
        gradient = back(jnp.ones(5))[0]
        assert jnp.all(jnp.isfinite(values))
        assert jnp.all(jnp.isfinite(gradient))
        assert jnp.all(gradient[:, 3] == 0.0)


@pytest.mark.parametrize(
    ("formula", "ratio"),
    [("-y*ln(p)", 1.0), ("-y*ln(1.1*p)", 1.0), ("-y*log(p/3)", 1.0), ("-y*ln(p*2)/2", 0.5)],
)
def test_logarithms_of_p_keep_their_slope(formula, ratio):
    """No gap between logits is too large, though p is 0 in float32 beyond 104."""
    logits = jnp.zeros((3, 2)).at[:, 1].set(jnp.array([20.0, 150.0, 1e4]))
    gradient = jax.grad(lambda z: jnp.sum(ex.expression_loss(formula)(z, jnp.zeros(3, jnp.int32))))(logits)
    close(gradient[:, 0], -ratio * np.ones(3))


def test_the_logarithm_of_one_minus_p_keeps_its_slope():
    logits = jnp.zeros((3, 3)).at[:, 1].set(jnp.array([20.0, 150.0, 1e4]))
    values, back = jax.vjp(lambda z: ex.expression_loss("-(1-y)*ln(1-p)")(z, jnp.zeros(3, jnp.int32)), logits)
    close(values, jnp.array([20.0, 150.0, 1e4]) - np.log(2.0), 1e-4)
    close(back(jnp.ones(3))[0][:, 1], np.ones(3))


def test_weights_and_flip():
    expression = ex.evomal.from_tree(["mul", "y", ["log", "p"]])
    weights = [5.0, 2.0, 0.5, 3.0]  # root: no effect
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)[np.arange(6), np.asarray(LABELS)]
    expected = 2.0 * 0.5 * np.log(np.maximum(3.0 * p, 1e-7))
    found = ex.expression_loss(expression, weights)(LOGITS, LABELS)
    # mul's first argument is y (weight 2), its second log (0.5) of p (3).
    close(found, expected, 1e-4)
    close(ex.expression_loss(expression, weights, flip=True)(LOGITS, LABELS), -found, 0.0)
    close(ex.Record(expression, tuple(weights), True).loss()(LOGITS, LABELS), -found, 0.0)
    with pytest.raises(UserError, match="3 weights for an expression of 4 nodes"):
        ex.expression_loss(expression, weights[:3])
    with pytest.raises(ex.FormulaError, match="column 3"):
        ex.expression_loss("y*lgo(p)")


def test_double_precision_is_double_precision():
    with jax.enable_x64(True):
        logits = jnp.asarray(np.asarray(LOGITS, np.float64))
        values = ex.expression_loss("-y*ln(p)")(logits, LABELS)
        assert values.dtype == jnp.float64
        close(values, loss.cross_entropy(logits, LABELS), 1e-14)


def test_the_interpreter_gives_the_loss():
    from edl_jax.loss.contract import targets

    program = ex.compile_program(ex.parse(FORMULAS["focal"]), 16)

    @jax.jit
    def interpreted(program, logits, labels):
        t = targets(logits, labels)
        return t.finish(ex.expression_values(t, lambda inputs: ex.evaluate(program, inputs)))

    close(interpreted(program, LOGITS, LABELS), loss.focal(LOGITS, LABELS))
