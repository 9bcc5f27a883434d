"""Every registered loss far out: wide gaps between logits, classes masked by -inf, any number of classes."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from loss_cases import SIZES, normal


@pytest.mark.parametrize("num_classes", SIZES)
def test_wide_gaps_and_masked_classes_are_finite(case, num_classes):

    @settings(max_examples=6, deadline=None, derandomize=True, database=None)
    @given(
        seed=st.integers(0, 2**31 - 1),
        scale=st.sampled_from([0.0, 1.0, 1e2, 1e4]),
        masked=st.sampled_from([0.0, 0.5, 1.0]),
        last=st.booleans(),
    )
    def check(seed, scale, masked, last):
        logits = np.clip(np.asarray(normal(seed, num_classes, scale)), -1e4, 1e4)
        label = int(np.argmin(logits)) if last else seed % num_classes
        hidden = np.random.default_rng(seed).random(num_classes) < masked
        hidden[label] = False
        logits = jnp.asarray(np.where(hidden, -np.inf, logits), jnp.float32)
        value, gradient = case.function(logits, jnp.int32(label)), case.gradient(logits, jnp.int32(label))
        assert jnp.isfinite(value)
        assert jnp.all(jnp.isfinite(gradient))
        assert jnp.all(gradient[hidden] == 0.0)

    check()
