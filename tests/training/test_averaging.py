import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax.training.averaging import ema_debias, ema_init, ema_update

VALUES = np.random.default_rng(0).normal(size=(12, 2, 3))


def averaged(decay, **options):
    start = {"w": jnp.asarray(VALUES[0], jnp.float32), "count": jnp.int32(0)}
    average = ema_init(start)
    update = jax.jit(lambda average, params, step: ema_update(average, params, decay, step, **options))
    for step, value in enumerate(VALUES[1:]):
        average = update(average, {"w": jnp.asarray(value, jnp.float32), "count": jnp.int32(step + 1)}, np.int32(step))
    return start, average


def test_average_has_the_weights_of_its_closed_form():
    _, average = averaged(0.8, warmup=False)
    n = len(VALUES) - 1
    weights = np.array([0.8**n, *(0.2 * 0.8 ** (n - 1 - np.arange(n)))])
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(average["w"], np.tensordot(weights, VALUES, 1), rtol=1e-5, atol=1e-6)


def test_warmed_up_decay_begins_at_a_tenth_and_is_bounded():
    _, average = averaged(0.3)
    expected = VALUES[0]
    for step, value in enumerate(VALUES[1:]):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5, atol=1e-6)


def test_bias_correction_takes_out_the_initial_values():
    start, average = averaged(0.8, warmup=False)
    n = len(VALUES) - 1
    weights = 0.8 ** (n - 1 - np.arange(n))
    expected = np.tensordot(weights / weights.sum(), VALUES[1:], 1)
    found = ema_debias(average, start, 0.8, n)
    np.testing.assert_allclose(found["w"], expected, rtol=1e-5, atol=1e-6)
    untouched = ema_debias(ema_init(start), start, 0.8, 0)
    np.testing.assert_array_equal(untouched["w"], start["w"])


def test_integers_are_kept_as_the_newest():
    assert int(averaged(0.8)[1]["count"]) == len(VALUES) - 1


def test_low_precision_is_averaged_in_float32_and_a_constant_stays_exact():
    start = {"w": jnp.asarray(VALUES[0], jnp.bfloat16)}
    average = ema_init(start)
    assert average["w"].dtype == jnp.float32
    same = ema_update(average, start, 0.999, 1000)
    np.testing.assert_array_equal(same["w"], average["w"])
    other = {"w": jnp.asarray(VALUES[1], jnp.bfloat16)}
    moved = ema_update(average, other, 0.9999, 10**6)  # below bfloat16's resolution
    assert np.all(np.asarray(moved["w"]) != np.asarray(average["w"]))


def test_average_outlives_a_donated_original():
    params = {"w": jnp.ones(3)}
    average = ema_init(params)
    params["w"].delete()
    np.testing.assert_array_equal(average["w"], np.ones(3))
