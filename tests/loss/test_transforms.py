"""Every registered loss under JAX's transformations and under permutation of the classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.sharding import PartitionSpec
from loss_cases import SIZES, integers, normal

from edl_jax import loss


@functools.cache
def transformed(family):
    """Return the programs that call the losses of a family under each transformation."""

    def scanned(logits, labels):
        return jax.lax.scan(lambda carry, x: (carry, family.plain(*x)), None, (logits, labels))[1]

    def over_one_argument(logits, labels):
        values = jax.vmap(family.plain, in_axes=(0, None))(logits[None], labels)
        return jax.tree.map(lambda x: x[0], values)

    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("batch")
    return {
        "jit": family.function,
        "vmap": jax.jit(jax.vmap(family.plain)),
        "vmap over one argument": jax.jit(over_one_argument),
        "scan": jax.jit(scanned),
        "shard_map": jax.jit(jax.shard_map(family.plain, mesh=mesh, in_specs=(spec, spec), out_specs=spec)),
    }


def test_jit_vmap_scan_and_shard_map(case, batch):
    logits, labels = batch
    expected = case.plain(logits, labels)
    for name, function in transformed(case.family).items():
        values = function(logits, labels)[case.name]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_one_compilation_for_one_shape(family, compilations):
    function = jax.jit(jax.grad(lambda z, y: sum(jnp.mean(values) for values in family.plain(z, y).values())))
    batches = [(normal(i, (7, 6)), integers(i, 7, 6)) for i in range(3)]
    with compilations() as counts:
        for logits, labels in batches:
            function(logits, labels)
    assert counts.total() == 1, counts


def test_a_learned_loss_outside_jit_is_one_program(compilations):
    function = loss.get("edl")
    batches = [(normal(i, (7, 9)), integers(i, 7, 9)) for i in range(3)]
    with compilations() as counts:
        for logits, labels in batches:
            function(logits, labels)
    assert counts.total() == 1, counts


@pytest.mark.parametrize("num_classes", SIZES)
def test_permuting_the_classes_permutes_the_gradient(case, num_classes):

    @settings(max_examples=4, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**31 - 1), scale=st.sampled_from([0.1, 3.0, 30.0]))
    def check(seed, scale):
        logits, label = np.asarray(normal(seed, num_classes, scale)), seed % num_classes
        order = np.random.default_rng(seed).permutation(num_classes)
        moved = int(np.flatnonzero(order == label)[0])
        before = jnp.asarray(logits), jnp.int32(label)
        after = jnp.asarray(logits[order]), jnp.int32(moved)
        value, gradient = case.function(*before), case.gradient(*before)
        permuted, permuted_gradient = case.function(*after), case.gradient(*after)
        np.testing.assert_allclose(permuted, value, rtol=1e-5, atol=2e-5)
        size = max(1.0, float(jnp.max(jnp.abs(gradient))))
        np.testing.assert_allclose(permuted_gradient, np.asarray(gradient)[order], rtol=1e-4, atol=1e-5 * size)

    check()
