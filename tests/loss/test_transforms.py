"""Every registered loss under JAX's transformations and under permutation of the classes."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from loss_cases import ROWS, SIZES, all_close, integers, normal

from edl_jax import loss


def test_alone_jit_and_vmap(every, ways, batch):
    """Eagerly, in one program, and an example at a time: a value is its own example's."""
    logits, labels = batch
    expected = every.values(logits, labels)
    alone = {name: np.asarray(function(logits, labels)) for name, function in ways.losses.items()}
    all_close(alone, {name: expected[name] for name in alone}, 1e-5)
    mapped = jax.jit(jax.vmap(every.plain))(logits, labels)
    all_close({name: np.asarray(x) for name, x in mapped.items()}, expected, 1e-5)


def test_scan_shard_map_and_vmap_over_one_argument(ways, batch):
    """By a loss of each way, one of which iterates: the others are sums and maxima over the classes."""
    logits, labels = batch

    def scanned(logits, labels):
        return jax.lax.scan(lambda carry, x: (carry, ways.plain(*x)), None, (logits, labels))[1]

    def over_one_argument(logits, labels):
        values = jax.vmap(ways.plain, in_axes=(0, None))(logits[None], labels)
        return jax.tree.map(lambda x: x[0], values)

    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("batch")
    sharded = jax.shard_map(ways.plain, mesh=mesh, in_specs=(spec, spec), out_specs=spec)

    @jax.jit
    def program(*batch):
        return scanned(*batch), over_one_argument(*batch), sharded(*batch)

    expected = ways.values(logits, labels)
    for values in program(logits, labels):
        all_close({name: np.asarray(x) for name, x in values.items()}, expected, 1e-5)


def test_one_compilation_for_one_shape(every, compilations):
    every.gradients(normal(0, (7, 5)), integers(0, 7, 5))
    with compilations() as counts:
        for i in (1, 2):
            every.gradients(normal(i, (7, 5)), integers(i, 7, 5))
    assert not counts, counts


def test_a_learned_loss_outside_jit_is_one_program(compilations):
    function = loss.get("edl")
    batches = [(normal(i, (7, 9)), integers(i, 7, 9)) for i in range(3)]
    with compilations() as counts:
        for logits, labels in batches:
            function(logits, labels)
    assert counts.total() == 1, counts


@pytest.mark.parametrize("num_classes", SIZES)
def test_permuting_the_classes_permutes_the_gradient(every, num_classes):
    permute(every, num_classes)


def test_permuting_many_classes(ways):
    permute(ways, 1000)


def permute(family, num_classes):
    """Compare values and gradients of each loss before and after a permutation of the classes of each row."""
    rng = np.random.default_rng(num_classes)
    scales = np.resize([0.1, 3.0, 30.0], ROWS)[:, None]
    logits = (scales * rng.standard_normal((ROWS, num_classes))).astype(np.float32)
    labels = rng.integers(0, num_classes, ROWS).astype(np.int32)
    order = np.stack([rng.permutation(num_classes) for _ in range(ROWS)])
    moved = np.argmax(order == labels[:, None], axis=1).astype(np.int32)
    shuffled = np.take_along_axis(logits, order, axis=1)
    values, permuted = family.values(logits, labels), family.values(shuffled, moved)
    gradients, permuted_gradients = family.gradients(logits, labels), family.gradients(shuffled, moved)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(permuted[name], values[name], rtol=1e-5, atol=2e-5, err_msg=name)
        size = np.maximum(1.0, np.max(np.abs(gradient), axis=1, keepdims=True))
        if name == "logit_norm":  # the gradient in z / (tau ||z||), rounded, is divided by tau ||z|| (tau = 0.04)
            size = np.maximum(size, 1.0 / (0.04 * np.linalg.norm(logits, axis=1, keepdims=True)))
        expected = np.take_along_axis(gradient, order, axis=1)
        wrong = np.abs(permuted_gradients[name] - expected) > 1e-4 * np.abs(expected) + 1e-5 * size
        assert not np.any(wrong), f"{name}: {permuted_gradients[name][wrong]}, expected {expected[wrong]}"
