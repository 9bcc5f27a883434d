import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edl_jax import models, training
from edl_jax.training.averaging import ema_init, ema_update

VALUES = np.random.default_rng(0).normal(size=(12, 2, 3))


def averaged(decay):
    start = {"w": jnp.asarray(VALUES[0], jnp.float32), "count": jnp.int32(0)}
    average = ema_init(start)
    update = jax.jit(lambda average, params, step: ema_update(average, params, decay, step))
    for step, value in enumerate(VALUES[1:]):
        average = update(average, {"w": jnp.asarray(value, jnp.float32), "count": jnp.int32(step + 1)}, np.int32(step))
    return average


def test_warmed_up_decay_begins_at_a_tenth_and_is_bounded():
    average = averaged(0.3)
    expected = VALUES[0]
    for step, value in enumerate(VALUES[1:]):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5, atol=1e-6)


def test_integers_are_kept_as_the_newest():
    assert int(averaged(0.8)["count"]) == len(VALUES) - 1


def test_low_precision_is_averaged_in_float32_and_a_constant_stays_exact():
    start = {"w": jnp.asarray(VALUES[0], jnp.bfloat16)}
    average = ema_init(start)
    assert average["w"].dtype == jnp.float32
    update = jax.jit(ema_update, static_argnums=2)
    same = update(average, start, 0.999, 1000)
    np.testing.assert_array_equal(same["w"], average["w"])
    other = {"w": jnp.asarray(VALUES[1], jnp.bfloat16)}
    moved = update(average, other, 0.9999, 10**6)  # below bfloat16's resolution
    assert np.all(np.asarray(moved["w"]) != np.asarray(average["w"]))


def test_average_outlives_a_donated_original():
    params = {"w": jnp.ones(3)}
    average = ema_init(params)
    params["w"].delete()
    np.testing.assert_array_equal(average["w"], np.ones(3))


def prepare(images):
    return images.astype(jnp.float32) / 255.0


def image_batches(count):
    rng = np.random.default_rng(1)
    return rng.integers(0, 255, (count, 8, 6, 6, 3), dtype=np.uint8), rng.integers(0, 4, (count, 8), dtype=np.int32)


class Normalised(nn.Module):
    """The smallest network with statistics."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(images.reshape(images.shape[0], -1))
        return nn.Dense(4)(x)


@pytest.mark.parametrize("model", [Normalised(), pytest.param(models.create("resnet8", 4), marks=pytest.mark.slow)])
def test_steps_average_parameters_and_statistics_until_a_bad_one(model):
    optimizer = training.sgd(0.1)
    cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels

    def loss_fn(logits, labels):
        return jnp.where(labels[0] < 0, jnp.nan, cross_entropy(logits, jnp.abs(labels)))

    step = jax.jit(training.make_train_step(model, loss_fn, optimizer, prepare, ema=0.3))
    plain_step = jax.jit(training.make_train_step(model, loss_fn, optimizer, prepare))
    create = functools.partial(training.create_state, jax.random.key(0), model, (6, 6, 3), optimizer)
    state = jax.jit(functools.partial(create, average=True))()
    images, labels = image_batches(6)
    labels[4] = -1  # the fifth step is bad
    expected = jax.device_get(state.variables)
    plain = training.TrainState(*(getattr(state, field.name) for field in dataclasses.fields(training.TrainState)))
    for number in range(6):
        plain, _ = plain_step(plain, training.TrainSums.zeros(), jax.random.key(1), images[number], labels[number])
        state, _ = step(state, training.TrainSums.zeros(), jax.random.key(1), images[number], labels[number])
        if number < 4:
            rate = min(0.3, (1 + number) / (10 + number))
            new = jax.device_get(state.variables)
            expected = jax.tree.map(lambda old, now, d=rate: d * old + (1 - d) * now, expected, new)
    assert int(state.bad_step) == 4
    # Averaging does not change training.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.variables, plain.variables)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.average, expected)
    jax.tree.map(np.testing.assert_array_equal, state.averaged.variables, state.average)
    for now, average in zip(jax.tree.leaves(state.variables), jax.tree.leaves(state.average), strict=True):
        assert not np.array_equal(now, average)


def test_a_state_without_an_average_holds_nothing_of_it_and_is_evaluated_as_it_is():
    create = functools.partial(
        training.create_state, jax.random.key(0), models.create("mlp", 4), (6, 6, 3), training.sgd(0.1)
    )
    plain, averaged = jax.eval_shape(create), jax.eval_shape(functools.partial(create, average=True))
    assert len(jax.tree.leaves(plain)) + len(jax.tree.leaves(plain.variables)) == len(jax.tree.leaves(averaged))
    assert plain.averaged is plain
