"""Population losses by interpolation: the fast path for separable loss networks.

For hard labels a separable loss is two functions of one variable, l(p, t) = g1(ln p_t) + sum_{j != t} g0(ln p_j), and
all members of a population see the same predictions. So each member is evaluated on one fixed grid of ln p, the
predictions become one interpolation matrix, and all losses are a single product: tables `[P, 2 G]` times matrix
`[2 G, N]`. Knots are equally spaced in u = p + ln(p) / 8, a blend of the network's two inputs: fine in p near 1 and in
ln p below. Interpolation is cubic in u (Keys 1981, IEEE Trans. ASSP 29(6)), with one knot beyond either end.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.networks.kinds import NetworkConfig, g0, g1, is_function_of_p_t

# F to 1e-5 of itself for fresh networks, 1e-6 around evolved ones (tests/synthetic/test_tabulated.py). Equally spaced
# in ln p, twice as many knots were 30 times worse, because networks bend with p near 1.
GRID = 64
_LOG_P_SHARE = 1.0 / 8.0
# Lower end of ln p unless a mixture reaches further: below it p g(p) is under 1e-7 for a wrong class.
LOG_P_MIN = -16.0
# From this many classes on, adding four weights per entry is cheaper than comparing with every knot.
_SCATTER_FROM = 33


@functools.lru_cache(maxsize=16)
def knots(low: float = LOG_P_MIN) -> np.ndarray:
    """Return `[GRID]` float64 ln p of the knots; the second is at `low`, the last but one at 0."""
    log_p = np.linspace(1.5 * low, 1.0, 1 << 20)
    u = np.exp(log_p) + _LOG_P_SHARE * log_p
    start, step = _scale(low)
    return np.interp(start + step * (np.arange(GRID) - 1.0), u, log_p)


def _scale(low: float) -> tuple[float, float]:
    """Return (u at `low`, step of u)."""
    start = float(np.exp(low)) + _LOG_P_SHARE * low
    return start, (1.0 - start) / (GRID - 3)


def tables(config: NetworkConfig, params: Any, low: float = LOG_P_MIN) -> jax.Array:
    """Return `[2 GRID]`: g1, then g0, of one separable network on the grid; `[GRID]` of a function of p_t.

    Args:
      config: architecture.
      params: parameters.
      low: ln p of the lower end; 0 is the upper one.
    """
    log_p = jnp.asarray(knots(low), jnp.float32)
    if is_function_of_p_t(config):
        return g1(config, params, log_p)
    return jnp.concatenate([g1(config, params, log_p), g0(config, params, log_p)])


def interpolation_matrix(
    log_p: jax.Array, labels: jax.Array, low: float = LOG_P_MIN, *, true_class_alone: bool = False
) -> jax.Array:
    """Return the matrix `[N, 2 GRID]` whose product with a network's tables is its losses.

    Args:
      log_p: `[N, C]` log-probabilities.
      labels: `[N]` integer classes.
      low: as in `tables`; a true class below it counts as being there.
      true_class_alone: leave out the wrong classes, `[N, GRID]`: for a function of p_t.
    """
    classes = jax.lax.broadcasted_iota(labels.dtype, log_p.shape, 1)
    is_true = labels[:, None] == classes
    start, step = _scale(low)
    inside = jnp.maximum(log_p, low)
    position = jnp.clip((jnp.exp(inside) + _LOG_P_SHARE * inside - start) / step + 1.0, 1.0, GRID - 2.0)
    true = _hat(jnp.sum(jnp.where(is_true, position, 0.0), axis=1))
    if true_class_alone:
        return true
    # Above the lower end g0 is interpolated as it is; below it, it falls with p.
    share = jnp.where(is_true, 0.0, jnp.exp(jnp.minimum(log_p - low, 0.0)))
    if log_p.shape[1] < _SCATTER_FROM:
        wrong = jnp.sum(share[..., None] * _hat(position), axis=1)
    else:
        wrong = _scatter(position, share)
    return jnp.concatenate([true, wrong], axis=1)


def population_losses(table: jax.Array, matrix: jax.Array) -> jax.Array:
    """Return losses `[P, N]` of tables `[P, 2 GRID]` at the predictions of `matrix` `[N, 2 GRID]`."""
    # Full precision: TF32's 1e-3 would reorder members of a converged population.
    return jax.lax.dot_general(table, matrix, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)


def _kernel(distance: jax.Array) -> jax.Array:
    """Return Keys' cubic convolution kernel (a = -1/2) at distances >= 0 in knots."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return jnp.where(distance < 1.0, near, jnp.where(distance < 2.0, far, 0.0))


def _hat(position: jax.Array) -> jax.Array:
    """Return the weights `[..., GRID]` of all knots at positions `[...]`."""
    knots = jnp.arange(GRID, dtype=position.dtype).reshape((1,) * position.ndim + (GRID,))
    return _kernel(jnp.abs(position[..., None] - knots))


def _scatter(position: jax.Array, share: jax.Array) -> jax.Array:
    """Return `[N, GRID]`: for each row the sum over classes of share times weights."""
    first = jnp.minimum(position.astype(jnp.int32), GRID - 3) - 1
    rows = jax.lax.broadcasted_iota(jnp.int32, position.shape, 0)
    matrix = jnp.zeros((position.shape[0], GRID), position.dtype)
    for offset in range(4):
        knot = first + offset
        matrix = matrix.at[rows, knot].add(share * _kernel(jnp.abs(position - knot.astype(position.dtype))))
    return matrix
