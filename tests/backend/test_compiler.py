"""Convolutions on a CPU are compiled to XLA's own kernel, gradients of filters included."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from edl_jax.backend import compiler


def filter_gradient(x, kernel, dy):
    def convolve(kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return jax.vjp(convolve, kernel)[1](dy)[0]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="options of the CPU backend")
def test_the_gradient_of_a_filter_is_no_library_call():
    arguments = (jnp.ones((8, 16, 16, 8)), jnp.ones((3, 3, 8, 8)), jnp.ones((8, 16, 16, 8)))
    compiled = compiler.compile_lowered(jax.jit(filter_gradient).lower(*arguments))
    assert "__ynn_fusion" not in compiled.as_text()
    expected = jax.jit(filter_gradient)(*arguments)
    assert jnp.allclose(compiled(*arguments), expected, rtol=1e-5)


def test_what_the_user_sets_is_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE")
    compiler.options.cache_clear()
    try:
        assert compiler.options() == {}
    finally:
        compiler.options.cache_clear()
