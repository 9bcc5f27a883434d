"""The bi-tempered loss: the normaliser at full precision, its derivatives, what the two temperatures do."""

import jax
import jax.numpy as jnp
import loss_reference
import numpy as np
import pytest
from loss_cases import normal, soft_labels

from edl_jax import loss


def hard_rows(num_classes):
    """Return logits `[N, num_classes]` float64, gaps up to 1e4: normal, one or half of the classes ahead, ramps."""
    draw = np.random.default_rng(num_classes).standard_normal
    gaps = np.geomspace(1e-3, 1e4, 15)[:, None]
    index = np.arange(num_classes)
    rows = [scale * draw((2, num_classes)) for scale in (0.0, 0.1, 1.0, 10.0, 1e3)]
    rows += [gaps * shape for shape in (index == 0, index < num_classes / 2, index > 0, (index / num_classes) ** 4)]
    rows = np.concatenate(rows)
    return np.maximum(rows, rows.max(axis=-1, keepdims=True) - 1e4)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_normaliser_is_exact_at_any_temperature(num_classes):
    logits = hard_rows(num_classes)
    labels = np.arange(len(logits)) % num_classes
    with jax.enable_x64(True):
        program = jax.jit(lambda t2: loss.bi_tempered(logits, labels, t2=t2))
        for t2 in (1.0, 1.05, 1.2, 2.0, 3.0, 4.0):
            expected = loss_reference.bi_tempered(logits, np.eye(num_classes)[labels], t2=t2)
            np.testing.assert_allclose(program(t2), expected, rtol=1e-9, atol=1e-10, err_msg=f"t2 = {t2}")


def test_single_precision_follows_double_at_any_gap():
    gaps = np.array([0.1, 1.0, 20.0, 50.0, 1e4])
    logits = np.concatenate([gaps[:, None] * [0.0, 1.0, 0.9, -1.0], gaps[:, None] * [1.0, 0.0, 0.1, -1.0]])
    labels = np.zeros(10, np.int32)
    program = jax.value_and_grad(lambda z: jnp.sum(loss.bi_tempered(z, labels)))
    single = jax.jit(program)(jnp.asarray(logits, jnp.float32))
    with jax.enable_x64(True):
        double = jax.jit(program)(jnp.asarray(logits))
    np.testing.assert_allclose(single[0], double[0], rtol=1e-5)
    np.testing.assert_allclose(single[1], double[1], rtol=2e-4, atol=1e-8)


def test_wrong_examples_are_bounded_and_fade_slowly():
    """q_t falls as a power of the gap: for C = 2 the slope is 1 / (1 + 0.2 gap)^2 far out, the value nears 5."""
    gaps = np.array([20.0, 50.0, 1e4])
    logits = jnp.zeros((3, 2)).at[:, 1].set(gaps)
    labels = jnp.zeros(3, jnp.int32)
    values, gradient = values_and_gradient(logits, labels)
    assert jnp.all((jnp.diff(values) > 0.0) & (values[1:] < 5.0))
    np.testing.assert_allclose(values[-1], 5.0, rtol=1e-3)
    np.testing.assert_allclose(gradient[:, 0], -1 / (1 + 0.2 * gaps) ** 2, rtol=0.02)


@pytest.mark.parametrize("t2", [4.0, 12.0])
def test_a_large_temperature_is_finite_in_single_precision(t2):
    """lambda is 3e8 or 1e32 for 1,000 equal classes; float32 ends at 3e38."""
    logits = jnp.zeros((3, 1000)).at[1, 1].set(1e4).at[2, :500].set(50.0)
    labels = jnp.zeros(3, jnp.int32)
    value, gradient = jax.jit(jax.value_and_grad(total(labels, t2=t2)))(logits)
    expected = loss_reference.bi_tempered(np.asarray(logits, np.float64), np.eye(1000)[labels], t2=t2)
    np.testing.assert_allclose(value, expected.sum(), rtol=1e-5)
    assert jnp.all(jnp.isfinite(gradient))


def total(labels, **temperatures):
    return lambda z: jnp.sum(loss.bi_tempered(z, labels, **temperatures))


@jax.jit
def values_and_gradient(logits, labels):
    """Return values `[N]` and their sum's gradient `[N, C]`, by one program."""
    values, pull = jax.vjp(lambda z: loss.bi_tempered(z, labels), logits)
    return values, pull(jnp.ones_like(values))[0]


def test_temperatures_of_one_are_cross_entropy_less_the_entropy_of_the_labels(batch):
    logits, labels = batch
    y = soft_labels(1, logits.shape)
    entropy = -np.sum(np.asarray(y) * np.log(np.asarray(y)))
    cross_entropy = [lambda z, y=target: jnp.sum(loss.cross_entropy(z, y)) for target in (labels, y)]
    tempered = [total(target, t1=1.0, t2=1.0) for target in (labels, y)]
    found = jax.jit(lambda z: [jax.value_and_grad(f)(z) for f in (*tempered, *cross_entropy)])(logits)
    for ours, theirs, offset in zip(found[:2], found[2:], (0.0, np.sum(entropy)), strict=True):
        np.testing.assert_allclose(ours[0], theirs[0] - offset, rtol=1e-5)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-6)


def test_it_is_a_divergence_from_the_labels():
    """Least, and 0, where the tempered softmax is the label distribution, certain labels included."""
    logits = np.asarray(normal(0, (6, 5), 2.0), np.float64)
    y = np.asarray(loss_reference.tempered_softmax(logits, 1.2), np.float32)
    both = np.concatenate([logits, logits[::-1]]).astype(np.float32)
    values, gradient = values_and_gradient(both, np.concatenate([y, y]))
    np.testing.assert_allclose(values[:6], np.zeros(6), atol=1e-6)
    np.testing.assert_allclose(gradient[:6], np.zeros((6, 5)), atol=1e-6)
    assert jnp.all(values[6:] > 0.1)


def test_temperatures_can_be_learned(batch):
    """First derivatives in t1 and t2 against central differences, at 1 and beside it; second ones against theirs."""
    labels = np.asarray(batch[1])
    logits = np.asarray(batch[0], np.float64)
    present = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"
    with jax.enable_x64(True):

        def value(t):
            both = np.concatenate([logits, np.where(present, logits, -np.inf)])
            return jnp.sum(loss.bi_tempered(both, np.tile(labels, 2), t1=t[0], t2=t[1]))

        evaluate, gradient, hessian = jax.jit(value), jax.jit(jax.grad(value)), jax.jit(jax.hessian(value))
        for at in ((0.8, 1.2), (1.0, 1.0), (1.0 - 1e-9, 1.0 + 1e-9), (0.0, 4.0)):
            steps = 1e-4 * np.eye(2)
            slopes = [(evaluate(at + h) - evaluate(at - h)) / 2e-4 for h in steps]
            np.testing.assert_allclose(gradient(np.array(at)), slopes, rtol=1e-5, err_msg=str(at))
        slopes = [(gradient([0.8, 1.2] + h) - gradient([0.8, 1.2] - h)) / 2e-4 for h in steps]
        np.testing.assert_allclose(hessian(np.array([0.8, 1.2])), slopes, rtol=1e-5)


def test_a_population_of_temperatures_is_one_program(batch):
    t1, t2 = np.array([1.0, 0.8, 0.2], np.float32), np.array([1.0, 1.2, 3.0], np.float32)
    values = jax.jit(jax.vmap(lambda a, b: loss.bi_tempered(*batch, t1=a, t2=b)))(t1, t2)
    logits, y = np.asarray(batch[0], np.float64), np.eye(5)[np.asarray(batch[1])]
    alone = [loss_reference.bi_tempered(logits, y, t1=float(a), t2=float(b)) for a, b in zip(t1, t2, strict=True)]
    np.testing.assert_allclose(values, alone, rtol=1e-5, atol=1e-5)


def test_calls_outside_jit_compile_nothing_anew(batch, compilations):
    logits, labels = batch
    loss.bi_tempered(logits, labels)
    others = -logits
    with compilations() as counts:
        loss.bi_tempered(others, labels)
    assert not counts, counts
