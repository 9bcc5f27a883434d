"""Layers on batches whose last axis is the batch: planes [C, H, W, N] and features [F, N].

A convolution is one matrix product of its kernel and of the patches of the batch. With the batch last, patches are
copies of long rows, and bias, activation and pooling run along them; under `jax.vmap` over kernels it is a batch of
products, where a convolution would become a grouped one.

Layers with parameters take a `Tap`, which shows their inputs to the tangent kernels: see `kernels`.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-5
"""Added to variances in batch normalisation."""
MOMENTUM = 0.9
"""Decay rate of the running statistics of batch normalisation."""


class Affine(NamedTuple):
    """Parameters of a dense layer or a convolution.

    Attributes:
      kernel: `[inputs, outputs]`, or `[h, w, inputs, outputs]`.
      bias: `[outputs]`.
    """

    kernel: jax.Array
    bias: jax.Array


class Tap(Protocol):
    """What sees the input and the output of each affine layer and returns the output, changed or not."""

    def __call__(self, name: str, layer: Affine, x: jax.Array, y: jax.Array) -> jax.Array:
        """Take the name of a layer, its parameters, what its product was of and its result."""
        ...


def no_tap(name: str, layer: Affine, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return the output as it is."""
    return y


def xavier(key: jax.Array, *shape: int) -> Affine:
    """Return a kernel of this shape after Glorot and Bengio (2010), uniform, and a bias of zeros."""
    return Affine(jax.nn.initializers.xavier_uniform()(key, shape), jnp.zeros(shape[-1]))


def planes(images: jax.Array) -> jax.Array:
    """Return images `[N, H, W, C]` as `[C, H, W, N]`."""
    return images.transpose(3, 1, 2, 0)


def dense(layer: Affine, x: jax.Array) -> jax.Array:
    """Map features `[F, N]` to `[outputs, N]`."""
    return layer.kernel.T @ x + layer.bias[:, None]


def patches(x: jax.Array, size: int, stride: int = 1) -> jax.Array:
    """Return the `size` x `size` windows of planes `[C, H, W, N]`: `[size * size * C, H', W', N]`, rows (i, j, c)."""
    height, width = (_steps(side, size, stride) for side in x.shape[1:3])
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    parts = [x[:, i : i + rows : stride, j : j + columns : stride] for i in range(size) for j in range(size)]
    return jnp.concatenate(parts, 0)


def conv(layer: Affine, x: jax.Array, stride: int = 1, pad: int = 0) -> jax.Array:
    """Map planes `[C, H, W, N]` to the convolution's `[outputs, H', W', N]`."""
    size, _, _, outputs = layer.kernel.shape
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    found = x[:, ::stride, ::stride] if size == 1 else patches(x, size, stride)
    y = layer.kernel.reshape(-1, outputs).T @ found.reshape(found.shape[0], -1) + layer.bias[:, None]
    return y.reshape(outputs, *found.shape[1:])


def windows(x: jax.Array, size: int) -> jax.Array:
    """Return what a convolution of odd `size` meets in each 2x2 window of its result.

    Args:
      x: planes `[C, H, W, N]`, H and W even.
      size: of the kernel; no padding.

    Returns:
      `[(size + 1)^2 C, H', W', N]`, H' and W' of the pooled result; for `conv_windows`.
    """
    channels, height, width, count = x.shape
    x = x.reshape(channels, height // 2, 2, width // 2, 2, count).transpose(2, 4, 0, 1, 3, 5)
    return patches(x.reshape(4 * channels, height // 2, width // 2, count), (size + 1) // 2)


def spread(kernel: jax.Array) -> jax.Array:
    """Return a kernel `[size, size, C, outputs]` as the matrix `[4 * outputs, (size + 1)^2 C]` for `windows`.

    Its rows are the four pixels of a window, each with all outputs.
    """
    size, _, channels, outputs = kernel.shape
    taps = jnp.asarray(_taps(size), kernel.dtype)
    return jnp.einsum("apqj,bvwk,jkco->qwoabpvc", taps, taps, kernel).reshape(4 * outputs, (size + 1) ** 2 * channels)


def conv_windows(layer: Affine, found: jax.Array) -> jax.Array:
    """Return the four pixels of each 2x2 window of a convolution's result: `[4, outputs, H' * W' * N]`.

    One product for four pixels makes 1.44 times the multiplications, of a third of the patches.

    Args:
      layer: kernel `[size, size, C, outputs]`, size odd.
      found: `windows` of the input.
    """
    outputs = layer.bias.shape[0]
    y = spread(layer.kernel) @ found.reshape(found.shape[0], -1)
    return y.reshape(4, outputs, -1) + layer.bias[None, :, None]


def mean_of_windows(y: jax.Array) -> jax.Array:
    """Return the mean of the four pixels `[4, C, M]` of each window: `[C, M]`."""
    # Written out: XLA's reductions are ten times slower on a CPU.
    a, b, c, d = y
    return 0.25 * ((a + b) + (c + d))


def global_mean(x: jax.Array) -> jax.Array:
    """Return the mean of each plane `[C, H, W, N]`: `[C, N]`."""
    channels, _, _, count = x.shape
    return jnp.mean(x.reshape(channels, -1, count), axis=1)


class Norm(NamedTuple):
    """Parameters, or running mean and variance, of batch normalisation: `[C]` each."""

    scale: jax.Array
    shift: jax.Array


def batch_norm(layer: Norm, running: Norm, x: jax.Array, train: bool) -> tuple[jax.Array, Norm]:
    """Normalise planes `[C, H, W, N]` by the batch in training, by running statistics otherwise.

    Args:
      layer: scale and shift.
      running: variance (`scale`) and mean (`shift`) so far.
      x: planes.
      train: whether to use the statistics of the batch, and update the running ones.

    Returns:
      `(planes, running statistics)`.
    """
    if train:
        rows = x.reshape(x.shape[0], -1)
        # As products with ones, for which a CPU has a fast kernel; XLA's reductions have none.
        ones = jnp.full(rows.shape[1], 1.0 / rows.shape[1], x.dtype)
        mean = rows @ ones
        variance = jnp.square(rows - mean[:, None]) @ ones
        old, new = jnp.stack([*running]), jax.lax.stop_gradient(jnp.stack([variance, mean]))
        running = Norm(*(MOMENTUM * old + (1.0 - MOMENTUM) * new))
    else:
        variance, mean = running
    factor = layer.scale * jax.lax.rsqrt(variance + EPSILON)
    offset = layer.shift - mean * factor
    return x * factor[:, None, None, None] + offset[:, None, None, None], running


def ones_and_zeros(channels: int) -> Norm:
    """Return the first parameters, and the first running statistics, of batch normalisation."""
    return Norm(jnp.ones(channels), jnp.zeros(channels))


def _steps(side: int, size: int, stride: int) -> int:
    return (side - size) // stride + 1


def _taps(size: int) -> np.ndarray:
    """Return `[T, 2, 2, size]`: 1 where position j of a kernel joins pixel p of block t to pixel q of a window."""
    taps = np.zeros(((size + 1) // 2, 2, 2, size), np.float32)
    for q in range(2):
        for j in range(size):
            taps[(q + j) // 2, (q + j) % 2, q, j] = 1.0
    return taps
