"""Convolutions for a CPU, where XLA's kernel (Eigen's) is slow with few channels and with dilated gradients.

Values and gradients are those of `lax.conv_general_dilated` up to rounding.

    blocks    no padding: neighbouring pixels become channels, x [N, H, W, I] is read as [N, H / 2, W / 2, 4 I], and
              the kernel is spread out to match: more products, each of them cheaper
    columns   few input channels: the patches and the kernel as two matrices; the gradients stay with XLA
    shifts    few channels, sides kept: the gradient with respect to the kernel is one product of the image, moved along
              its rows, and of the gradient of the result, moved along its columns: nothing is transposed
    phases    stride 2: the gradient with respect to the input is four convolutions, one for each parity of row and
              column, rather than one of an image with holes
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_FEW = 8  # input channels up to which blocks win
_FEWEST = 4  # and columns
_SOME = 16  # input and output channels up to which shifts win
_PARTS = 16  # of a batch: products of one part each, that XLA can compute at once


def conv_general_dilated(
    x: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: Any, **options: Any
) -> jax.Array:
    """Return what lax's function of this name returns for the arguments that `nn.Conv` gives it.

    Args:
      x: [N, H, W, I].
      kernel: [h, w, I / groups, O].
      strides: of rows and columns.
      padding: zeros before and after rows and columns, or a name that lax knows.
      options: as lax's.
    """
    plain = all(options.get(name) in (None, 1, (1, 1)) for name in ("lhs_dilation", "rhs_dilation"))
    plain &= options.get("feature_group_count", 1) == 1 and options.get("precision") is None and kernel.ndim == 4
    if plain and not isinstance(padding, str):
        size, inputs = kernel.shape[0], kernel.shape[2]
        pad, stride = padding[0][0], strides[0]
        alike = {tuple(pads) for pads in padding} == {(pad, pad)} and len(set(strides)) == 1
        if alike and kernel.shape[0] == kernel.shape[1]:
            even = not any(side % 2 for side in x.shape[1:3])
            if stride == 1 and pad == 0 and size > 1 and size % 2 and inputs <= _FEW and even:
                return blocks(x, kernel)
            if stride == 1 and size == 3 and inputs <= _FEWEST:
                return columns(pad, x, kernel)
            if stride == 1 and size == 3 and pad == 1 and max(kernel.shape[2:]) <= _SOME:
                return shifts(x, kernel)
            if stride == 2 and size == 3 and pad == 1 and even:
                return phases(x, kernel)
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)


def convolution(x: jax.Array, kernel: jax.Array, stride: int, pad: int) -> jax.Array:
    """Return XLA's convolution of `x` [N, H, W, I] and `kernel` [h, w, I, O]: [N, H', W', O]."""
    return _convolve(x, kernel, (stride, stride), ((pad, pad), (pad, pad)))


def _convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Any) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _spread(size: int) -> np.ndarray:
    """Return [T, 2, 2, size]: 1 where a kernel's position j joins pixel p of block t to pixel q of the result."""
    taps = np.zeros(((size + 1) // 2, 2, 2, size), np.float32)
    for t, p, q in np.ndindex(taps.shape[:3]):
        if 0 <= (j := 2 * t + p - q) < size:
            taps[t, p, q, j] = 1.0
    return taps


def blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution without padding of `x` [N, H, W, I], H and W even, and a square `kernel` of odd size."""
    n, height, width, inputs = x.shape
    size, outputs = kernel.shape[0], kernel.shape[-1]
    taps = jnp.asarray(_spread(size), kernel.dtype)
    wide = jnp.einsum("tpqj,uvwk,jkio->tupviqwo", taps, taps, kernel)
    wide = wide.reshape(*wide.shape[:2], 4 * inputs, 4 * outputs)
    x = x.reshape(n, height // 2, 2, width // 2, 2, inputs).swapaxes(2, 3)
    y = _convolve(x.reshape(n, height // 2, width // 2, 4 * inputs), wide, (1, 1), "VALID")
    y = y.reshape(*y.shape[:3], 2, 2, outputs).swapaxes(2, 3)
    return y.reshape(n, height - size + 1, width - size + 1, outputs)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def columns(pad: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution of stride 1 as a product of the patches of `x` [N, H, W, I] and the `kernel`."""
    return _columns(pad, x, kernel)


def _columns(pad: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    size, _, inputs, outputs = kernel.shape
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    # Two steps, along rows and then along columns, copy longer stretches than one.
    height, width = (side - size + 1 for side in x.shape[1:3])
    x = jnp.concatenate([x[:, :, j : j + width] for j in range(size)], -1)
    x = jnp.concatenate([x[:, i : i + height] for i in range(size)], -1)
    y = x.reshape(-1, size * size * inputs) @ kernel.reshape(-1, outputs)
    return y.reshape(*x.shape[:3], outputs)


def _columns_forward(pad: int, x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _columns(pad, x, kernel), (x, kernel)


def _columns_backward(pad: int, kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(lambda x, kernel: convolution(x, kernel, 1, pad), *kept)[1](dy)


columns.defvjp(_columns_forward, _columns_backward)


@jax.custom_vjp
def shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution of stride 1 and padding 1 of `x` [N, H, W, I] and a 3x3 `kernel`."""
    return convolution(x, kernel, 1, 1)


def _shifts_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolution(x, kernel, 1, 1), (x, kernel)


def _shifted(x: jax.Array, axis: int, distances: tuple[int, ...]) -> jax.Array:
    """Return `x` [N, H, W, C] moved by each of `distances` along `axis`, zeros moving in: [N, H, W, C * distances]."""
    channels, zero, total = x.shape[-1], jnp.zeros((), x.dtype), jnp.zeros((), x.dtype)
    # A sum, since XLA's concatenation of short rows is three times slower.
    for i, distance in enumerate(distances):
        pads = [(0, 0, 0)] * 4
        pads[axis] = (distance, -distance, 0)
        pads[3] = (i * channels, (len(distances) - 1 - i) * channels, 0)
        total += lax.pad(x, zero, pads)
    return total


def _shifts_backward(kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    (dx,) = jax.vjp(lambda x: convolution(x, kernel, 1, 1), x)[1](dy)
    # dkernel[i, j] sums x[h, w + j - 1] * dy[h + 1 - i, w] over images, h and w.
    parts, (inputs, outputs) = math.gcd(len(x), _PARTS), kernel.shape[2:]
    a = _shifted(x, 2, (1, 0, -1)).reshape(parts, -1, 3 * inputs)
    b = _shifted(dy, 1, (-1, 0, 1)).reshape(parts, -1, 3 * outputs)
    product = jnp.einsum("pka,pkb->pab", a, b, preferred_element_type=jnp.float32).sum(0)
    product = product.reshape(3, inputs, 3, outputs).transpose(2, 0, 1, 3)
    return dx, product.astype(kernel.dtype)


shifts.defvjp(_shifts_forward, _shifts_backward)


@jax.custom_vjp
def phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the convolution of stride 2 and padding 1 of `x` [N, H, W, I], H and W even, and a 3x3 `kernel`."""
    return convolution(x, kernel, 2, 1)


def _phases_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolution(x, kernel, 2, 1), (x, kernel)


def _phases_backward(kept: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    (dkernel,) = jax.vjp(lambda kernel: convolution(x, kernel, 2, 1), kernel)[1](dy)
    back = kernel.swapaxes(2, 3)
    # An even row of x meets the kernel's middle row alone; an odd one its last row and, one row of dy on, its first.
    positions = ((np.array([1]), (0, 0)), (np.array([2, 0]), (0, 1)))
    rows = []
    for i, rows_pad in positions:
        row = [_convolve(dy, back[i][:, j], (1, 1), (rows_pad, columns_pad)) for j, columns_pad in positions]
        rows.append(jnp.stack(row, 3))  # [N, H / 2, W / 2, 2, I]
    return jnp.stack(rows, 2).reshape(x.shape), dkernel


phases.defvjp(_phases_forward, _phases_backward)
