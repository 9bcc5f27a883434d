"""Forms of layers that XLA compiles well for a CPU: the same numbers as Flax's, fewer passes over memory.

`layers` chooses them where the default backend is a CPU; other backends keep Flax's. What each is worth:
`benchmarks/downstream_vs_torch.py --tries`. Forward rules call no function that has one: so a gradient can be
differentiated forwards, as products with Hessians are made.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """Return max(x, 0) for `x` of any shape; its derivative at 0 is 0, NaN stays NaN.

    As a selection rather than a maximum: XLA computes a maximum with a constant again in each operation that reads
    it, in transposes too, with whatever came before it.
    """
    return _positive(x)


def _positive(x: jax.Array) -> jax.Array:
    return jnp.where(x <= 0, jnp.zeros((), x.dtype), x)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = _positive(x)
    return y, y


def _relu_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, dy, jnp.zeros((), dy.dtype)),)


relu.defvjp(_relu_forward, _relu_backward)


def _quarters(x: jax.Array) -> list[jax.Array]:
    """Return the four elements of each 2x2 window of `x` [N, H, W, C], row by row: [N, H // 2, W // 2, C] each."""
    height, width = (2 * (side // 2) for side in x.shape[1:3])
    return [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]


@jax.custom_vjp
def max_pool_2x2(x: jax.Array) -> jax.Array:
    """Map `x` [N, H, W, C] to the maxima of its 2x2 windows [N, H // 2, W // 2, C].

    Of equal maxima the first, row by row, takes the gradient, as in Flax and PyTorch.
    """
    return _largest(x)


def _largest(x: jax.Array) -> jax.Array:
    a, b, c, d = _quarters(x)
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _pool_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _largest(x), x


def _pool_backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    n, height, width, channels = dy.shape
    quarters = _quarters(x)
    parts = []
    # Quarters are compared with one another: XLA may compute `x` again, with other roundings than the maximum had.
    for i, quarter in enumerate(quarters):
        first = jnp.ones(dy.shape, bool)
        for j, other in enumerate(quarters):
            if i != j:
                first &= quarter > other if j < i else quarter >= other
        parts.append(jnp.where(first, dy, jnp.zeros((), dy.dtype)))
    rows = [jnp.stack(parts[i : i + 2], 3) for i in (0, 2)]  # [N, H // 2, W // 2, 2, C]
    dx = jnp.stack(rows, 2).reshape(n, 2 * height, 2 * width, channels)
    odd = [(0, have - paired) for have, paired in zip(x.shape, dx.shape, strict=True)]
    return (jnp.pad(dx, odd),)


max_pool_2x2.defvjp(_pool_forward, _pool_backward)


class BatchNorm(nn.BatchNorm):
    """Flax's layer over the last axis; in training with a gradient that reads the activations three times.

    Parameters, statistics and their names are those of the base class, which also does what is no training, and
    whatever `layers.batch_norm` does not ask for.
    """

    @nn.compact
    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Map `x` [..., C] to its normalised form of type `dtype`."""
        average = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        usual = self.axis == -1 and self.axis_name is None and self.use_scale and self.use_bias
        if average or not usual or mask is not None or self.is_initializing():
            return super().__call__(x, use_running_average, mask=mask)
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        y, batch_mean, batch_var = _normalise(self.epsilon, x, scale, bias)
        keep = self.momentum
        mean.value = keep * mean.value + (1 - keep) * lax.stop_gradient(batch_mean)
        var.value = keep * var.value + (1 - keep) * lax.stop_gradient(batch_var)
        return y.astype(self.dtype or x.dtype)


def _per_channel(values: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.expand_dims(values, range(like.ndim - 1))


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x, range(x.ndim - 1), dtype=jnp.float32)


def _statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = x.astype(jnp.float32)
    mean = _mean(x)
    return mean, jnp.maximum(_mean(x * x) - mean * mean, 0.0)


def _normalised(epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
    mean, var = _statistics(x)
    factor = lax.rsqrt(var + epsilon) * scale
    y = (x - _per_channel(mean, x)) * _per_channel(factor, x) + _per_channel(bias, x)
    return y, mean, var


_normalise = jax.custom_vjp(_normalised, nondiff_argnums=(0,))


def _normalise_forward(epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[tuple, tuple]:
    y, mean, var = _normalised(epsilon, x, scale, bias)
    return (y, mean, var), (x, scale, bias, mean, var)


def _normalise_backward(epsilon: float, kept: tuple, cotangents: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, bias, mean, var = kept
    dy = cotangents[0]  # the statistics carry no gradient
    inverse = lax.rsqrt(var + epsilon)
    dy_mean = _mean(dy)
    # mean(dy * (x - mean)) without a pass that writes x - mean
    slope = (_mean(dy * x) - mean * dy_mean) * inverse
    a = scale * inverse
    b = a * inverse * slope
    c = a * dy_mean - b * mean
    # The last operation has two operands as large as dx: so XLA writes dx once rather than in each that reads it.
    dx = (dy * _per_channel(a, x) - _per_channel(c, x)) - x * _per_channel(b, x)
    count = x.size // x.shape[-1]
    return dx.astype(x.dtype), (slope * count).astype(scale.dtype), (dy_mean * count).astype(bias.dtype)


_normalise.defvjp(_normalise_forward, _normalise_backward)
