"""Every registered loss under JAX's transformations and under permutation of the classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.sharding import PartitionSpec
from loss_cases import integers, normal

from edl_jax import loss


def test_jit_vmap_scan_and_shard_map(case, batch):
    logits, labels = batch
    expected = case.plain(logits, labels)

    def scanned(logits, labels):
        return jax.lax.scan(lambda carry, x: (carry, case.plain(*x)), None, (logits, labels))[1]

    mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("batch")
    sharded = jax.shard_map(case.plain, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
    for name, function in {
        "jit": case.function,
        "vmap": jax.jit(jax.vmap(case.plain)),
        "vmap over one argument": jax.jit(lambda z, y: jax.vmap(case.plain, in_axes=(0, None))(z[None], y)[0]),
        "scan": jax.jit(scanned),
        "shard_map": jax.jit(sharded),
    }.items():
        np.testing.assert_allclose(function(logits, labels), expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_one_compilation_for_one_shape(case, compilations):
    function = jax.jit(jax.value_and_grad(lambda z, y: jnp.mean(case.plain(z, y))))
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


@pytest.mark.parametrize("num_classes", [2, 3, 10, 100, 1000])
def test_permuting_the_classes_permutes_the_gradient(case, num_classes):
    value_and_grad = jax.jit(jax.value_and_grad(lambda z, y: jnp.sum(case.plain(z, y))))

    @settings(max_examples=4, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**31 - 1), scale=st.sampled_from([0.1, 3.0, 30.0]))
    def check(seed, scale):
        logits, label = np.asarray(normal(seed, num_classes, scale)), seed % num_classes
        order = np.random.default_rng(seed).permutation(num_classes)
        moved = int(np.flatnonzero(order == label)[0])
        value, gradient = value_and_grad(jnp.asarray(logits), jnp.int32(label))
        permuted, permuted_gradient = value_and_grad(jnp.asarray(logits[order]), jnp.int32(moved))
        np.testing.assert_allclose(permuted, value, rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(permuted_gradient, np.asarray(gradient)[order], rtol=1e-4, atol=1e-5)

    check()
