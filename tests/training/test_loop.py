import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edl_jax import models, training
from edl_jax.core.errors import UserError
from edl_jax.training.epoch import epoch_order

NUM_CLASSES = 4
cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels


def make_examples():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, 50).astype(np.int32)
    images = rng.integers(0, 100, (50, 6, 6, 1), dtype=np.uint8)
    images[np.arange(50), labels, 0, 0] = 255
    return images, labels


IMAGES, LABELS = make_examples()
ORDER = jax.jit(epoch_order, static_argnums=(2, 3))


def prepare(images):
    return images.astype(jnp.float32) / 255.0 - 0.5


def augment(key, images, labels):
    """Add noise that depends on the key."""
    return images + 25.5 * jax.random.normal(key, images.shape), labels


# What a loss does beside its work is told by the tens of the labels, so that all tests share their programs.
GOOD, NAN_WHEN_SMALL, BAD_GRADIENT, NAN = 0, 10, 20, 30


def loss_fn(logits, labels):
    """Cross-entropy; NaN once the mean of a batch is below 0.8, or a derivative of 0 * inf, or NaN at once."""
    mode = labels // 10 * 10
    losses = cross_entropy(logits, labels % 10)
    root = jnp.sqrt(jnp.where(mode == BAD_GRADIENT, losses * 0.0, 1.0))
    losses = losses + jnp.where(mode == BAD_GRADIENT, root, 0.0)
    small = (mode == NAN_WHEN_SMALL) & (jnp.mean(losses) < 0.8)
    return jnp.where(small | (mode == NAN), jnp.nan, losses)


@functools.cache
def initial(arch="mlp"):
    """The initial state, as NumPy arrays that no donation can take away."""
    model, optimizer = models.create(arch, NUM_CLASSES), training.sgd(0.1)
    create = jax.jit(lambda key: training.create_state(key, model, IMAGES.shape[1:], optimizer))
    return jax.device_get(create(jax.random.key(0)))


@functools.cache
def plain_step():
    model, optimizer = models.create("mlp", NUM_CLASSES), training.sgd(0.1)
    return jax.jit(training.make_train_step(model, loss_fn, optimizer, prepare, augment))


@functools.cache
def compiled(loop, arch="mlp", batch_size=8):
    return training.compile_epochs(
        training.make_train_step(models.create(arch, NUM_CLASSES), loss_fn, training.sgd(0.1), prepare, augment),
        initial(arch),
        jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype),
        jax.ShapeDtypeStruct(LABELS.shape, LABELS.dtype),
        batch_size=batch_size,
        loop=loop,
    )


def bound(loop, mode=GOOD, arch="mlp"):
    """Return the epochs of a training whose labels say `mode`."""
    return compiled(loop, arch)(jax.random.key(1), jnp.asarray(IMAGES), jnp.asarray(LABELS + mode))


def train(loop, epochs=3, arch="mlp", mode=GOOD):
    state, means, train_epoch = initial(arch), [], bound(loop, mode, arch)
    for epoch in range(epochs):
        state, sums = train_epoch(state, epoch)
        means.append(jax.device_get(sums).means())
    return jax.device_get(state), means


def assert_trees_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize("arch", ["mlp", pytest.param("resnet8", marks=pytest.mark.slow)])
def test_scan_and_steps_give_the_same_numbers(arch):
    state, means = train("scan", arch=arch)
    other_state, other_means = train("steps", arch=arch)
    assert_trees_close(state, other_state, rtol=1e-3, atol=1e-4)
    assert [m["loss"] for m in means] == pytest.approx([m["loss"] for m in other_means], rel=1e-4)
    assert int(state.step) == 18  # 3 epochs of 50 // 8 steps
    assert int(state.bad_step) == -1


@pytest.mark.parametrize("loop", ["scan", "steps"])
def test_training_learns_and_is_repeatable(loop):
    state, means = train(loop, epochs=30)
    assert means[-1]["loss"] < 0.3 * means[0]["loss"]
    assert means[-1]["accuracy"] > 0.9
    again, _ = train(loop, epochs=30)
    jax.tree.map(np.testing.assert_array_equal, state, again)


def test_an_epoch_visits_every_example_at_most_once_and_epochs_differ(key):
    first, second = (np.asarray(ORDER(key, epoch, 50, 8)) for epoch in (0, 1))
    assert first.shape == (6, 8)
    assert len(np.unique(first)) == 48
    assert first.min() >= 0
    assert first.max() < 50
    assert not np.array_equal(first, second)


def test_step_randomness_depends_on_the_step_number_alone():
    """What makes a resumed run exact: the key of a step is derived, never carried along."""

    def loss_at(number):
        moved = initial().replace(step=np.int32(number))
        sums = plain_step()(moved, training.TrainSums.zeros(), jax.random.key(1), IMAGES[:8], LABELS[:8])[1]
        return float(sums.loss)

    assert loss_at(3) == loss_at(3)
    assert loss_at(3) != loss_at(4)


@pytest.mark.parametrize("loop", ["scan", "steps"])
def test_non_finite_loss_freezes_the_last_good_values(loop):
    state, _ = train(loop, epochs=10, mode=NAN_WHEN_SMALL)
    bad_step = int(state.bad_step)
    assert 0 < bad_step < 60
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((state.params, state.opt_state)))
    # The kept values are those of plain training after exactly bad_step steps.
    good, (order_key, step_key) = initial(), jax.random.split(jax.random.key(1))
    for number in range(bad_step):
        rows = np.asarray(ORDER(order_key, number // 6, 50, 8))[number % 6]
        good, _ = plain_step()(good, training.TrainSums.zeros(), step_key, IMAGES[rows], LABELS[rows])
    assert_trees_close(state.params, jax.device_get(good.params), rtol=1e-4, atol=1e-5)


def test_finite_loss_with_a_non_finite_gradient_counts_as_bad():
    state, means = train("steps", epochs=1, mode=BAD_GRADIENT)
    assert np.isfinite(means[0]["loss"])
    assert int(state.bad_step) == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))


def test_steps_loop_stops_early_once_bad():
    class Watch:
        last = 0

        def due(self, done):
            self.last = done
            return done % 2 == 0

        def report(self, done):
            raise AssertionError("reported progress of a diverged run")

        def enough(self, done):
            return False

    watch = Watch()
    state, _ = bound("steps", NAN)(initial(), 0, watch)
    assert watch.last == 2  # of 6
    assert int(state.bad_step) == 0


class Constant(nn.Module):
    """Logits that are the first pixels of the image."""

    @nn.compact
    def __call__(self, images, *, train):
        self.param("unused", nn.initializers.zeros, ())
        return images.reshape(images.shape[0], -1)[:, :NUM_CLASSES]


@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 7, 50, 64])
def test_evaluation_counts_every_example_once(batch_size):
    model = Constant()
    state = training.TrainState(np.int32(0), {"unused": np.float32(0.0)}, {}, (), np.int32(-1))
    batches = training.make_eval_batches(IMAGES, LABELS, batch_size)
    evaluate = training.compile_evaluate(training.make_eval_step(model, prepare), state, batches[0])
    found = jax.device_get(evaluate(state, batches)).means()

    logits = IMAGES.reshape(50, -1)[:, :NUM_CLASSES].astype(np.float64) / 255.0 - 0.5
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert found["accuracy"] == (logits.argmax(1) == LABELS).mean()
    assert found["nll"] == pytest.approx(-log_probs[np.arange(50), LABELS].mean(), rel=1e-5)


def test_loop_is_chosen_by_platform():
    assert training.choose_loop("auto", "cpu") == "steps"
    assert training.choose_loop("auto", "gpu") == "scan"
    assert training.choose_loop("auto", "tpu") == "scan"
    assert training.choose_loop("scan", "cpu") == "scan"
    with pytest.raises(UserError, match="unknown loop 'step': did you mean steps"):
        training.choose_loop("step", "cpu")


@pytest.mark.parametrize("batch_size", [0, 51])
def test_batch_size_must_fit_the_data(batch_size):
    with pytest.raises(UserError, match=f"batch_size is {batch_size}, expected between 1 and the 50"):
        compiled("scan", batch_size=batch_size)
