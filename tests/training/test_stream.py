"""Images that stay on the host: the numbers of the other drivers, a view of a mapped file, no thread left behind."""

import functools
import threading
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edl_jax import training
from edl_jax.core.errors import UserError
from edl_jax.data import ImageView

cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 83).astype(np.int32)
IMAGES = RNG.integers(0, 100, (83, 6, 6, 1), dtype=np.uint8)
IMAGES[np.arange(83), LABELS, 0, 0] = 255
STEPS = 83 // 8


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(4)(images.reshape(images.shape[0], -1))


def augment(key, images, labels):
    return images + 25.5 * jax.random.normal(key, images.shape), labels


CREATE = jax.jit(lambda key: training.create_state(key, Linear(), (6, 6, 1), training.sgd(0.1)))


def initial():
    return CREATE(jax.random.key(0))


@functools.cache
def program(loop, loss_fn=cross_entropy):
    step = training.make_train_step(Linear(), loss_fn, training.sgd(0.1), lambda x: x / 255.0 - 0.5, augment)
    shapes = (jax.ShapeDtypeStruct(IMAGES.shape, np.uint8), jax.ShapeDtypeStruct(LABELS.shape, np.int32))
    return training.compile_epochs(step, initial(), *shapes, batch_size=8, loop=loop)


def train(loop, images, labels, epochs=3):
    state, means = initial(), []
    train_epoch = program(loop)(jax.random.key(1), images, labels)
    for epoch in range(epochs):
        state, sums = train_epoch(state, epoch)
        means.append(jax.device_get(sums).means())
    return jax.device_get(state), means


def test_streamed_images_train_as_those_on_the_device(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES[::-1])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    view = ImageView(mapped).select(np.arange(83)[::-1])
    state, means = train("stream", view, LABELS)
    expected_state, expected = train("steps", jnp.asarray(IMAGES), jnp.asarray(LABELS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, expected_state)
    assert [m["loss"] for m in means] == pytest.approx([m["loss"] for m in expected], rel=1e-5)
    assert int(state.step) == 3 * STEPS
    assert means[-1]["loss"] < means[0]["loss"]
    again, _ = train("stream", view, LABELS)
    jax.tree.map(np.testing.assert_array_equal, state, again)


def test_an_epoch_that_goes_bad_ends_early_and_leaves_no_thread():
    before = threading.active_count()
    epoch = program("stream", lambda z, y: jnp.nan * cross_entropy(z, y))(jax.random.key(1), IMAGES, LABELS)

    class Watch:
        last = 0

        def due(self, done):
            self.last = done
            return done == 4

        def report(self, done):
            raise AssertionError("reported progress of a diverged run")

        def enough(self, done):
            return False

    watch = Watch()
    state, _ = epoch(initial(), 0, watch)
    assert (watch.last, int(state.bad_step)) == (4, 0)
    deadline = time.time() + 5
    while threading.active_count() > before and time.time() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # those of earlier tests may end meanwhile


def test_an_image_that_cannot_be_read_stops_the_epoch():
    class Broken:
        shape, dtype = IMAGES.shape, IMAGES.dtype

        def __getitem__(self, rows):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        program("stream")(jax.random.key(1), Broken(), LABELS)(initial(), 0)


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_batches_that_are_made_when_asked_for_are_those_on_the_device(count):
    view = ImageView(IMAGES).select(slice(count))
    stored = training.make_eval_batches(IMAGES[:count], LABELS[:count], 8)
    lazy = training.make_eval_batches(view, LABELS[:count], 8, resident=False)
    assert len(lazy) == len(stored)
    for found, expected in zip((*lazy, lazy[-1], *lazy[:1]), (*stored, stored[-1], *stored[:1]), strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(IndexError):
        lazy[len(stored)]


def test_evaluation_waits_for_each_streamed_batch_alone(monkeypatch):
    """Else the host runs ahead of a device, and all batches lie there at once."""
    lazy = training.make_eval_batches(ImageView(IMAGES), LABELS, 8, resident=False)
    state, waited, wait = initial(), [], jax.block_until_ready
    step = training.make_eval_step(Linear(), lambda x: x / 255.0 - 0.5)
    evaluate = training.compile_evaluate(step, state, lazy[0])
    monkeypatch.setattr(jax, "block_until_ready", lambda x: waited.append(x) or wait(x))
    streamed = jax.device_get(evaluate(state, lazy))
    assert len(waited) == len(lazy) == 11
    resident = jax.device_get(evaluate(state, list(lazy)))
    assert len(waited) == 11
    jax.tree.map(np.testing.assert_array_equal, streamed, resident)


def test_what_fills_more_than_half_of_the_device_is_streamed():
    for platform, fitting in (("cpu", "steps"), ("gpu", "scan")):
        assert training.choose_loop("auto", platform, 500, 1000) == fitting
        assert training.choose_loop("auto", platform, 501, 1000) == "stream"
        assert training.choose_loop("auto", platform, 501, None) == fitting
    assert training.choose_loop("steps", "cpu", 501, 1000) == "steps"
    with pytest.raises(UserError, match="unknown loop 'streams': did you mean stream"):
        training.choose_loop("streams", "cpu")
