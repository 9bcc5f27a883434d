"""Several labels at once: the two-class problems that the values are, which labels count, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from loss_cases import close, integers, normal

from edl_jax import loss

sigmoid_cross_entropy = optax.sigmoid_binary_cross_entropy
EXTREMES = jnp.array([[0.0, 1e4, -1e4], [30.0, -30.0, 1e-3], [1.0, -2.0, 3.0]])
LABELS = jnp.array([[1, 0, 1], [1, 1, 0], [0, 1, 1]])
SOFT = jnp.array([[0.0, 1.0, 0.5], [0.2, 0.9, 0.4], [1.0, 0.3, 0.0]])


@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(bool), SOFT], ids=["integers", "bool", "soft"])
def test_cross_entropy_is_sigmoid_cross_entropy(labels):
    f = loss.multilabel("cross_entropy")
    expected = labels.astype(jnp.float32)
    close(f(EXTREMES, labels), sigmoid_cross_entropy(EXTREMES, expected), 1e-6)
    gradient = jax.grad(lambda z: f(z, labels).sum())(EXTREMES)
    close(gradient, jax.grad(lambda z: sigmoid_cross_entropy(z, expected).sum())(EXTREMES), 1e-6)


def test_each_class_is_a_problem_of_two(ways, references):
    z, y = normal(0, (4, 3), 4.0), integers(1, (4, 3), 2)
    two = np.stack([np.zeros(12), np.asarray(z, np.float64).ravel()], axis=-1)
    for name, function in ways.losses.items():
        values = loss.multilabel(function)(z, y)
        close(values.ravel(), references[name](two, np.eye(2)[np.asarray(y).ravel()]), err_msg=name)


def test_names_hyper_parameters_and_dtypes():
    z, y = normal(0, (4, 3), 4.0), integers(1, (4, 3), 2)
    p = jax.nn.sigmoid(jnp.where(y == 1, z, -z))
    close(loss.multilabel("focal", gamma=1.0)(z, y), -(1 - p) * jnp.log(p))
    half = loss.multilabel("mae")(z.astype(jnp.bfloat16), y)
    assert half.dtype == jnp.bfloat16
    close(half, 1 - p, 1e-2)


def test_unknown_labels_and_examples_are_left_out():
    f = loss.multilabel("edl_optimum")
    is_known = jnp.array([[True, False, True], [True, True, False], [False, True, True]])
    for unknown in (LABELS.at[0, 1].set(-1).at[2, 0].set(7), jnp.where(is_known, SOFT, jnp.nan)):
        logits = EXTREMES.at[1, 2].set(jnp.nan)
        value, gradient = jax.value_and_grad(lambda z, y: f(z, y, where=is_known).sum())(logits, unknown)
        clean = jnp.where(is_known, unknown, 0)
        close(value, jnp.where(is_known, f(EXTREMES, clean), 0.0).sum(), 1e-6)
        assert jnp.array_equal(gradient[~is_known], jnp.zeros(3))
        assert jnp.isfinite(gradient).all()
    first = f(EXTREMES, LABELS, where=np.array([True, False, False]))
    assert jnp.array_equal(first, f(EXTREMES, LABELS) * jnp.array([[1.0], [0.0], [0.0]]))


def test_class_weights_are_factors():
    f = loss.multilabel("gce")
    close(f(EXTREMES, SOFT, class_weights=[1.0, 0.0, 3.0]), f(EXTREMES, SOFT) * jnp.array([[1.0, 0.0, 3.0]]), 1e-6)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (LABELS.at[1, 2].set(3), {}, r"the label at \(1, 2\) is 3, expected 0, 1 or a probability"),
        (SOFT.at[0, 0].set(-0.5), {}, r"the label at \(0, 0\) is -0.5, expected 0, 1 or a probability"),
        (LABELS[:, 0], {}, r"labels have shape \(3,\), expected \(3, 3\).* \(jax.nn.one_hot"),
        (LABELS, {"where": np.ones(2, bool)}, r"where has shape \(2,\), expected \(3, 3\) \(labels\) or \(3,\)"),
        (LABELS, {"class_weights": [1.0, 2.0]}, r"class_weights have shape \(2,\), expected \(3,\)"),
    ],
)
def test_what_does_not_fit_is_named(labels, options, message):
    with pytest.raises(ValueError, match=message):
        loss.multilabel("cross_entropy")(EXTREMES, labels, **options)


def test_integer_logits_are_refused():
    with pytest.raises(TypeError, match="logits have dtype int32"):
        loss.multilabel("cross_entropy")(LABELS, LABELS)
