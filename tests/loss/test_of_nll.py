"""Losses as functions of the cross-entropy: the values and gradients that they have on the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import CALIBRATION, EQUAL_CLASSES, TWO_CLASSES, Family, all_close, close, normal

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.adapters.nll import nll_function
from edl_jax.loss.networks import table

OF_P_T = [name for name in loss.names() if nll_function(loss.get(name)) is not None]
CASES = {name: (name, {}) for name in OF_P_T} | {
    "focal, 0.5": ("focal", {"gamma": 0.5}),
    "gce, truncated": ("gce", {"k": 0.5}),
}


@pytest.fixture(scope="module")
def learned():
    """Return a table whose scale and shift depend on C and whose tail begins among ordinary predictions."""
    value, slope = np.linspace(7.0, 0.5, 5) ** 1.5, -np.linspace(0.5, 3.0, 5)
    params = table.params_of(-6.0, value, slope)
    return loss.learned_loss(loss.Artifact(loss.NetworkConfig("table", (5,)), params, CALIBRATION))


def test_values_and_gradients_are_those_on_the_logits(learned):
    scale = np.repeat([1.0, 5.0, 20.0, 1e4], 7)[:, None]
    logits = np.array(normal(0, (28, 5)) * scale)
    logits[:3] = [[1e4, 0, 0, 0, 0], [0, 1e4, 0, 0, 0], [12, 0, 0, 0, 0]]  # certain, certainly wrong, nearly certain
    labels = np.argmax(logits, axis=-1).astype(np.int32)
    labels[1], labels[3::2] = 0, 2
    plain = {case: loss.get(name, **parameters) for case, (name, parameters) in CASES.items()}
    of_nll = {case: loss.of_nll(name, num_classes=5, **parameters) for case, (name, parameters) in CASES.items()}
    plain["learned"], of_nll["learned"] = learned, loss.of_nll(learned, num_classes=5)

    def on_top(function):
        return lambda logits, labels: function(loss.cross_entropy(logits, labels))

    adapted = Family({case: on_top(function) for case, function in of_nll.items()})
    direct = Family(plain)
    all_close(adapted.values(logits, labels), direct.values(logits, labels), 1e-6)
    all_close(adapted.gradients(logits, labels), direct.gradients(logits, labels), 2e-5)


def test_all_losses_of_p_t_are_known(every):
    a = np.asarray(normal(1, (5,), 2.0))
    b = a + np.array([0.0, 2.0, -3.0, 1.0, 0.0])
    # The same total, so that p_0 is the same and the probabilities of the wrong classes are not.
    b[1:] += np.log(np.exp(a[1:]).sum() / np.exp(b[1:]).sum())
    values = every.values(np.stack([a, b]).astype(np.float32), np.array([0, 0]))
    found = {name for name in loss.names() if name not in TWO_CLASSES and np.isclose(*values[name], rtol=1e-6)}
    # The default taylor_glo has no terms of the wrong classes, others have; sparse_lsr needs ln(1 - p_t).
    assert found - EQUAL_CLASSES - {"sparse_lsr", "taylor_glo"} == {*OF_P_T}


def test_slopes_at_both_ends():
    slopes = {
        "cross_entropy": (1.0, 1.0),
        "focal": (0.0, 1.0),
        "gce": (1.0, 0.0),
        "poly1": (3.0, 1.0),
        "ace": (-1.0, 1.0),
    }

    @jax.jit
    def slopes_of(nll):
        return {name: jax.vmap(jax.grad(loss.of_nll(name)))(nll) for name in slopes}

    found = slopes_of(jnp.array([0.0, -1e-6, 1e4]))  # -1e-6 is a rounding of 0
    all_close(found, {name: [certain, certain, wrong] for name, (certain, wrong) in slopes.items()}, 1e-6)


def test_the_dtype_stays_and_values_are_computed_in_float32():
    nll = jnp.array([0.5, 3.0], jnp.bfloat16)
    values = loss.of_nll("poly1")(nll)
    assert values.dtype == jnp.bfloat16
    assert jnp.array_equal(values, loss.of_nll("poly1")(nll.astype(jnp.float32)).astype(jnp.bfloat16))
    with pytest.raises(TypeError, match="nll has dtype int32, expected a floating-point dtype"):
        loss.of_nll("mae")(jnp.array([1, 2]))


def test_a_negative_nll_is_named():
    mae = loss.of_nll("mae")
    with pytest.raises(ValueError, match=r"the nll at \(1, 0\) is -2.5, expected at least 0: it is -ln p"):
        mae(jnp.array([[0.1], [-2.5]]))
    close(mae(jnp.array([-1e-6])), [0.0], 1e-6)
    close(jax.jit(mae)(jnp.array([-2.5, jnp.nan, 1.0])), [np.nan, np.nan, 1.0 - np.exp(-1.0)], 1e-6)


def test_what_cannot_be_used_is_named(learned):
    with pytest.raises(UserError, match=r"loss brier is not known .* call it on the logits, or choose from ace, c"):
        loss.of_nll("brier")
    with pytest.raises(UserError, match="loss label_smoothing is not known"):
        loss.of_nll(loss.get("label_smoothing", alpha=0.2))
    with pytest.raises(UserError, match="loss learned depends on the number of classes: pass num_classes="):
        loss.of_nll(learned)
    with pytest.raises(UserError, match="num_classes is 1, expected an integer of at least 2"):
        loss.of_nll("edl_optimum", num_classes=1)
    with pytest.raises(UserError, match="hyper-parameters gamma go with the name of a loss"):
        loss.of_nll(loss.focal, gamma=1.0)
    with pytest.raises(TypeError, match="the loss is 3, expected a name, a path or a loss"):
        loss.of_nll(3)
