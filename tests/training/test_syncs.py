"""Nothing in an epoch calls back to the host, and the host fetches rarely."""

import collections
import contextlib
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax._src import array

from edl_jax import training
from edl_jax.core.stopping import Stop
from edl_jax.training import loop as loops
from edl_jax.training.epoch import CHECK_EVERY
from edl_jax.training.progress import Progress

cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels


class Linear(nn.Module):
    """The smallest network, for programs that compile at once."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(4)(images.reshape(images.shape[0], -1))


MODEL, OPTIMIZER = Linear(), training.sgd(0.1)


def prepare(images):
    return images.astype(jnp.float32) / 255.0


def augment(key, images, labels):
    return images + jax.random.normal(key, images.shape), labels


def make_step(loss_fn=cross_entropy, ema=0.9):
    return training.make_train_step(MODEL, loss_fn, OPTIMIZER, prepare, augment, ema=ema)


CREATE = jax.jit(lambda key: training.create_state(key, MODEL, (6, 6, 1), OPTIMIZER, average=True))


def initial():
    return CREATE(jax.random.key(0))


def data(count):
    rng = np.random.default_rng(0)
    return jax.device_put(rng.integers(0, 255, (count, 6, 6, 1), dtype=np.uint8)), jnp.arange(count) % 4


def primitives(jaxpr):
    """The names of all primitives, in programs inside programs too."""
    names = set()

    def visit(value):
        if hasattr(value, "jaxpr"):
            value = value.jaxpr
        if hasattr(value, "eqns"):
            for equation in value.eqns:
                names.add(equation.primitive.name)
                for parameter in equation.params.values():
                    visit(parameter)
        elif isinstance(value, (tuple, list)):
            for item in value:
                visit(item)

    visit(jaxpr)
    return names


def to_host(names):
    return {name for name in names if "callback" in name or "infeed" in name or "outfeed" in name or "print" in name}


def programs(step):
    key, order = jax.random.key(0), jnp.zeros((4, 8), jnp.int32)
    state, sums = initial(), training.TrainSums.zeros()
    scan = jax.make_jaxpr(loops.make_scan(step, 8))(state, np.int32(0), key, key, *data(32))
    batch = jax.make_jaxpr(loops.make_batch_step(step, 4))(state, sums, order, key, *data(32))
    stream = jax.make_jaxpr(step)(state, sums, key, *data(8))
    return {"scan": primitives(scan), "steps": primitives(batch), "stream": primitives(stream)}


def test_no_program_of_an_epoch_calls_the_host():
    found = programs(make_step())
    assert {"scan", "dot_general"} <= found["scan"]  # the walk does reach the step inside the scan
    assert "dot_general" in found["steps"] & found["stream"]
    for names in found.values():
        assert not to_host(names)

    def chatty(logits, labels):
        losses = cross_entropy(logits, labels)
        jax.debug.callback(lambda _: None, losses)
        return losses

    assert all(to_host(names) for names in programs(make_step(chatty)).values())


@pytest.fixture
def fetches(monkeypatch):
    """Return a context manager that yields a Counter: arrays whose numbers the host reads inside it.

    `int`, `float`, `bool`, `tolist`, formatting and `jax.device_get` are seen. `np.asarray` is not where device
    memory is the host's, as on a CPU.
    """
    counts = collections.Counter()
    value, item = array.ArrayImpl._value, array.ArrayImpl.item

    def counted_value(self):
        counts["arrays"] += 1
        return value.fget(self)

    def counted_item(self, *args):
        counts["arrays"] += 1
        return item(self, *args)

    @contextlib.contextmanager
    def count():
        with monkeypatch.context() as patch:
            patch.setattr(array.ArrayImpl, "_value", property(counted_value))
            patch.setattr(array.ArrayImpl, "item", counted_item)
            counts.clear()
            yield counts

    return count


def test_the_counter_sees_what_a_loop_could_do(fetches):
    x = jnp.float32(1.0)
    for read in (float, bool, str, jax.device_get, lambda x: x.item(), lambda x: f"{x:.1f}", lambda x: x.tolist()):
        with fetches() as counts:
            read(x + 1)
        assert counts["arrays"] >= 1, read


STEPS = 3 * CHECK_EVERY + 7


@functools.cache
def compiled(loop):
    images, labels = data(8 * STEPS)
    return training.compile_epoch(make_step(), initial(), jax.random.key(1), images, labels, batch_size=8, loop=loop)


def fetched(fetches, loop, watch=None):
    state, epoch = initial(), compiled(loop)
    if watch is not None:
        watch.start_epoch()
    with fetches() as counts:
        state, _ = epoch(state, 0, watch)
    assert int(state.step) == STEPS
    return counts["arrays"]


def test_an_epoch_fetches_nothing_scanned_and_once_for_many_steps_otherwise(fetches):
    assert fetched(fetches, "scan") == 0
    assert fetched(fetches, "steps") == 3
    assert fetched(fetches, "stream") == 3  # and the order, once, which is seen on a device alone


def test_watched_steps_fetch_for_the_estimate_and_then_as_rarely(fetches, capsys):
    watch = Progress("a run", steps=STEPS, epochs=2, done_steps=0, eval_share=0.0, stop=Stop())
    assert 4 <= fetched(fetches, "steps", watch) <= 3 + 6  # the first steps are timed one by one
    assert "a run: 2 epochs take" in capsys.readouterr().err
    assert fetched(fetches, "steps", watch) == 3
