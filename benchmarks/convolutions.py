"""Ways to compute a convolution on a CPU that downstream_vs_torch.py tries, each with the signature of lax's own."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

from edl_jax.backend import cpu_conv
from edl_jax.backend.cpu_conv import convolution


def shifts(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> list[jax.Array]:
    """Return for each position of the kernel what it meets of x: h * w arrays [N, H', W', I]."""
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((padded.shape[i] - kernel.shape[i - 1]) // stride + 1 for i in (1, 2))
    return [
        padded[:, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]


def im2col(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> jax.Array:
    """Return the convolution as one matrix product of patches; its gradients are matrix products too."""
    columns = jnp.concatenate(shifts(x, kernel, stride, pad), axis=-1)
    return columns @ kernel.reshape(-1, kernel.shape[-1])


def _with_filter_gradient(gradient: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Return XLA's convolution with another gradient with respect to the kernel."""
    convolve = jax.custom_vjp(lambda options, x, kernel: convolution(x, kernel, *options), nondiff_argnums=(0,))

    def forward(options: Any, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return convolution(x, kernel, *options), (x, kernel)

    def backward(options: Any, kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, kernel = kept
        (dx,) = jax.vjp(lambda x: convolution(x, kernel, *options), x)[1](dy)
        return dx, gradient(x, kernel, dy, *options)

    convolve.defvjp(forward, backward)
    return lambda x, kernel, stride, pad: convolve((stride, pad), x, kernel)


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])


def _over_rows(a: jax.Array, b: jax.Array) -> jax.Array:
    return lax.dot_general(_rows(a), _rows(b), (((0,), (0,)), ((), ())))


def _gradient_by_products(x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, pad: int) -> jax.Array:
    return jnp.stack([_over_rows(shift, dy) for shift in shifts(x, kernel, stride, pad)]).reshape(kernel.shape)


def _gradient_by_patches(x: jax.Array, kernel: jax.Array, dy: jax.Array, stride: int, pad: int) -> jax.Array:
    return _over_rows(jnp.concatenate(shifts(x, kernel, stride, pad), axis=-1), dy).reshape(kernel.shape)


CONVOLUTIONS: dict[str, Callable[..., jax.Array]] = {
    "im2col": im2col,
    "filter gradient as 9 products": _with_filter_gradient(_gradient_by_products),
    "filter gradient as im2col": _with_filter_gradient(_gradient_by_patches),
}


@contextlib.contextmanager
def used_by_models(name: str | None) -> Iterator[None]:
    """Let the convolutions of networks be those of `CONVOLUTIONS[name]` while they are traced; None changes nothing."""
    if name is None:
        yield
        return

    def conv_general_dilated(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **_: Any) -> jax.Array:
        return CONVOLUTIONS[name](x, kernel, strides[0], padding[0][0])

    with mock.patch.object(cpu_conv, "conv_general_dilated", conv_general_dilated):
        yield
