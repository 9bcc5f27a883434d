"""The loss of a linear layer without its logits: values and gradients of the plain form, and what is never stored."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import close, integers, normal

from edl_jax import loss
from edl_jax.core.errors import UserError

NAME, D, C = "edl_optimum", 4, 7
plain_loss = loss.get(NAME)
HIDDEN, WEIGHTS, BIAS = normal(0, (23, D), 2.0), normal(1, (D, C)), normal(2, (C,))
LABELS, FACTORS = integers(3, (23,), C), normal(4, (23,))


def plain(hidden, weights, bias):
    """Return a sum that gives each example its own cotangent."""
    return jnp.sum(FACTORS * plain_loss(hidden @ weights + bias[None], LABELS))


def chunked(hidden, weights, bias, chunk=4):  # 23 examples do not fill the last of 6 chunks
    return jnp.sum(FACTORS * loss.linear(hidden, weights, LABELS, loss=NAME, bias=bias, chunk=chunk))


@pytest.fixture(scope="module")
def expected():
    return jax.jit(jax.value_and_grad(plain, (0, 1, 2)))(HIDDEN, WEIGHTS, BIAS)


@pytest.mark.parametrize("chunk", [4, None])
def test_values_and_gradients_are_those_of_the_plain_form(chunk, expected):
    found = jax.jit(jax.value_and_grad(lambda *args: chunked(*args, chunk=chunk), (0, 1, 2)))(HIDDEN, WEIGHTS, BIAS)
    jax.tree.map(lambda x, y: close(x, y, 1e-5), found, expected)


def test_any_batch_shape_and_loss():
    hidden, labels = HIDDEN[:12].reshape(2, 3, 2, D), LABELS[:12].reshape(2, 3, 2)
    focal = loss.get("focal", gamma=1.0)
    found = jax.jit(lambda h: loss.linear(h, WEIGHTS, labels, loss=focal, chunk=4))(hidden)
    close(found, jax.jit(lambda h: focal(h @ WEIGHTS, labels))(hidden), 1e-5)

    def shape(hidden, labels):
        return jax.eval_shape(lambda h: loss.linear(h, WEIGHTS, labels, loss=NAME), hidden).shape

    assert shape(HIDDEN[0], LABELS[0]) == ()
    assert shape(HIDDEN[:0], LABELS[:0]) == (0,)


def sizes(jaxpr):
    """Yield the size of everything that a program computes, in its loops as well."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def test_no_more_than_a_chunk_of_logits_is_stored():
    weights, bias = normal(0, (2, 1000)), normal(0, (1000,))

    def stored(function, *args):
        return max(sizes(jax.make_jaxpr(jax.value_and_grad(function, (0, 1, 2)))(*args).jaxpr))

    args = HIDDEN[:, :2], weights, bias
    assert stored(plain, *args) >= 23 * 1000
    assert stored(chunked, *args) == 4 * 1000


@pytest.mark.slow
def test_second_derivatives():
    def curvature(function):
        return jax.grad(lambda h: jnp.sum(jnp.sin(jax.grad(function)(h, WEIGHTS, BIAS))))(HIDDEN)

    close(jax.jit(lambda: curvature(chunked))(), jax.jit(lambda: curvature(plain))(), 1e-4)


def test_vmap_and_the_modes_that_there_are():
    several = jnp.stack([HIDDEN, 0.5 * HIDDEN])
    gradients = [jax.jit(jax.vmap(jax.grad(f, 1), (0, None, None)))(several, WEIGHTS, BIAS) for f in (chunked, plain)]
    close(*gradients, 1e-5)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jit(lambda *args: jax.jvp(chunked, args, args)).lower(HIDDEN, WEIGHTS, BIAS)


def test_sixteen_bits_are_summed_in_float32():
    """The sums of 4,096 equal terms stop at 256 in bfloat16."""
    hidden, weights = jnp.ones((4096, 1), jnp.bfloat16), jnp.zeros((1, 2), jnp.bfloat16)
    labels = jnp.zeros(4096, jnp.int32)
    function = jax.value_and_grad(lambda w: loss.linear(hidden, w, labels, loss="cross_entropy", chunk=64).sum())
    value, gradient = jax.jit(function)(weights)
    assert (value.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    close(value, 4096 * np.log(2.0), 1e-5)
    close(gradient, [[-2048.0, 2048.0]], 1e-2)


def test_examples_that_do_not_count_leave_no_trace():
    left_out = np.arange(23) % 3 == 0
    labels = np.where(left_out, -100, LABELS)
    hidden = jnp.where(left_out[:, None], jnp.nan, HIDDEN)

    def values(hidden, weights, **options):
        return loss.linear(hidden, weights, labels, loss=NAME, chunk=4, **options)

    def by_label(hidden, weights):
        return jnp.sum(values(hidden, weights, ignore_label=-100))

    kept, true = np.asarray(HIDDEN)[~left_out], np.asarray(LABELS)[~left_out]
    expected = jax.jit(jax.value_and_grad(lambda w: jnp.sum(plain_loss(kept @ w, true))))(WEIGHTS)
    value, (d_hidden, d_weights) = jax.jit(jax.value_and_grad(by_label, (0, 1)))(hidden, WEIGHTS)
    jax.tree.map(lambda x, y: close(x, y, 1e-5), (value, d_weights), expected)
    assert jnp.array_equal(d_hidden[left_out], jnp.zeros((8, D)))
    assert jnp.isfinite(d_hidden).all()
    by_mask = jax.jit(lambda h: values(h, WEIGHTS, where=~left_out))(hidden)
    assert jnp.array_equal(by_mask[left_out], jnp.zeros(8))
    close(by_mask.sum(), value, 1e-6)


def test_a_label_that_is_no_class_is_named_or_nan():
    labels = LABELS.at[5].set(C)
    with pytest.raises(ValueError, match=r"the label at \(5,\) is 7, expected 0 to 6"):
        loss.linear(HIDDEN, WEIGHTS, labels, loss=NAME)
    values = jax.jit(lambda labels: loss.linear(HIDDEN, WEIGHTS, labels, loss=NAME))(labels)
    assert np.flatnonzero(np.isnan(values)).tolist() == [5]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": "brier"}, UserError, "loss brier is not known .* alone: call it on hidden @ weights, or choose"),
        ({"chunk": 0}, UserError, "chunk is 0, expected a positive integer"),
        ({"weights": WEIGHTS.T}, ValueError, r"weights have shape \(7, 4\), expected \[D, C\].*transpose of an embedd"),
        ({"bias": BIAS[:-1]}, ValueError, r"bias has shape \(6,\), expected \(7,\)"),
        ({"labels": jnp.zeros((23, C))}, ValueError, r"labels have shape \(23, 7\).*probabilities need the loss on"),
        ({"labels": FACTORS}, TypeError, "labels have dtype float32, expected integers"),
        ({"hidden": jnp.ones((23, D), int)}, TypeError, "hidden has dtype int32, expected a floating-point dtype"),
        ({"where": np.ones((23, 1), bool)}, ValueError, r"where has shape \(23, 1\), expected \(23,\)"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    with pytest.raises(error, match=message):
        loss.linear(**{"hidden": HIDDEN, "weights": WEIGHTS, "labels": LABELS, "loss": NAME} | change)


TWO_DEVICES = """
import re
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from edl_jax import loss

assert len(jax.devices()) == 2
draw = np.random.default_rng(0)
weights, bias = jnp.asarray(draw.standard_normal((5, 11))), jnp.asarray(draw.standard_normal(11))
hidden, labels = jnp.asarray(draw.standard_normal((4, 8, 5))), jnp.asarray(draw.integers(0, 11, (4, 8)))


def objective(weights, bias, hidden, labels):
    return loss.linear(hidden, weights, labels, loss="edl_optimum", bias=bias, chunk=8).mean()


def program(function):
    return jax.jit(jax.value_and_grad(function, (0, 1, 2)))


one = program(objective)(weights, bias, hidden, labels)
mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
batch = [jax.device_put(x, NamedSharding(mesh, P("batch"))) for x in (hidden, labels)]
compiled = program(objective).lower(weights, bias, *batch).compile()
# The sums meet; no example moves.
assert not re.search("all-gather|all-to-all|collective-permute", compiled.as_text())
mapped = jax.shard_map(
    lambda *args: jax.lax.pmean(objective(*args), "batch"),
    mesh=mesh,
    in_specs=(P(), P(), P("batch"), P("batch")),
    out_specs=P(),
)
for two in (compiled(weights, bias, *batch), program(mapped)(weights, bias, hidden, labels)):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), two, one)
"""


def test_two_devices_equal_one():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TWO_DEVICES],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
