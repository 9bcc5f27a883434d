"""Labels that are no labels: an error where their values are known, NaN under jit, silence where masked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError

EAGER = pytest.mark.parametrize("name", ["cross_entropy", "brier", "edl"])


@EAGER
@pytest.mark.parametrize(("wrong", "shown"), [(5, "5"), (-1, "-1")])
def test_a_label_that_is_no_class(batch, name, wrong, shown):
    logits, labels = batch
    labels = labels.at[3].set(wrong)
    function = loss.get(name)
    with pytest.raises(ValueError, match=rf"the label at \(3,\) is {shown}, expected 0 to 4 for logits with 5 classes"):
        function(logits, labels)
    with pytest.raises(ValueError, match="the label at"):  # an eager gradient knows its labels too
        jax.grad(lambda z: function(z, labels).sum())(logits)
    assert jnp.all(jnp.isfinite(function(logits, labels, where=labels == batch[1])))
    assert jnp.isnan(jax.jit(function)(logits, labels)[3])


@EAGER
def test_probabilities_that_do_not_sum_to_one(batch, name):
    logits, labels = batch
    function, y = loss.get(name), np.eye(5)[np.asarray(labels)]
    with pytest.raises(ValueError, match=r"the label probabilities at \(2,\) sum to 1.4, expected 1: normalise them"):
        function(logits, np.where(np.arange(6)[:, None] == 2, 1.4 * y, y))
    with pytest.raises(ValueError, match=r"the label probabilities at \(0,\) sum to nan"):
        function(logits, y * np.nan)
    with pytest.raises(ValueError, match=r"a label probability at \(1,\) is -0.5, expected at least 0"):
        function(logits, np.where(np.arange(6)[:, None] == 1, [-0.5, 0.5, 0.5, 0.5, 0.0], y))
    where = np.arange(6) != 2
    assert np.all(np.isfinite(function(logits, np.where(where[:, None], y, 0.0), where=where)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_rounded_probabilities_pass(dtype):
    y = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(1000), 64), dtype)
    assert jnp.all(jnp.isfinite(loss.cross_entropy(jnp.zeros((64, 1000)), y)))


def test_labels_on_another_axis_and_in_batches(batch):
    logits = jnp.zeros((2, 5, 3))
    with pytest.raises(ValueError, match=r"the label at \(1, 2\) is 5, expected 0 to 4"):
        loss.cross_entropy(logits, jnp.zeros((2, 3), jnp.int32).at[1, 2].set(5), axis=1)
    y = jnp.full((2, 5, 3), 0.2).at[0, 0, 1].set(0.9)
    with pytest.raises(ValueError, match=r"the label probabilities at \(0, 1\) sum to 1.7"):
        loss.cross_entropy(logits, y, axis=1)


@pytest.mark.parametrize("name", ["cross_entropy", "edl"])
@pytest.mark.parametrize("axis", [2, -3])
def test_an_axis_that_is_none(batch, name, axis):
    with pytest.raises(ValueError, match=f"axis {axis} is out of bounds for array of dimension 2"):
        loss.get(name)(*batch, axis=axis, class_weights=np.ones(5))


def test_a_bad_hyper_parameter_is_reported_by_get():
    with pytest.raises(UserError, match="focal: gamma is -1, expected a finite number of at least 0"):
        loss.get("focal", gamma=-1)
