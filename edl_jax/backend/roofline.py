"""How fast evolution runs beside what the machine can do: `pretrain --profile`."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_MATRIX = 2048
_LARGE_MATRIX = 8192  # of an accelerator, which is done with the other before it is asked for the next
_VECTOR = 1 << 26
_REPEATS = 7


def matrix_size() -> int:
    """Return the side of the matrices whose product is the ceiling of arithmetic."""
    return _MATRIX if jax.default_backend() == "cpu" else _LARGE_MATRIX


def ceilings(dtype: jax.typing.DTypeLike = jnp.float32) -> tuple[float, float]:
    """Return (matrix-product rate in FLOP/s of `dtype`, memory rate in bytes/s) of the default device, measured."""
    side = matrix_size()
    a = jnp.ones((side, side), dtype)
    product = jax.jit(lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST))
    v = jnp.ones((_VECTOR,), jnp.float32)
    scale = jax.jit(lambda x: x * 1.5)
    return 2.0 * side**3 / _seconds(product, a), 8.0 * _VECTOR / _seconds(scale, v)


def lines(compiled: Any, generations_per_second: float) -> list[str]:
    """Return the report of a run: its rates beside the machine's ceilings.

    Args:
      compiled: the compiled chunk of one run; XLA counts its loop's body, a generation, once.
      generations_per_second: rate of the run without compilation.
    """
    cost, side = compiled.cost_analysis() or {}, matrix_size()
    flops, moved = float(cost.get("flops", 0.0)), float(cost.get("bytes accessed", 0.0))
    peak_flops, peak_bytes = ceilings()
    achieved_flops, achieved_bytes = flops * generations_per_second, moved * generations_per_second
    return [
        f"profile: {generations_per_second:.1f} generations/s without compilation",
        f"  one generation: {flops / 1e6:.1f} MFLOP and {moved / 1e6:.1f} MB of operands (XLA's count)",
        f"  arithmetic: {achieved_flops / 1e9:.2f} GFLOP/s, {100 * achieved_flops / peak_flops:.1f} % of a measured "
        f"{peak_flops / 1e9:.1f} GFLOP/s ({side} x {side} float32 product)",
        f"  operands: {achieved_bytes / 1e9:.2f} GB/s, {100 * achieved_bytes / peak_bytes:.1f} % of a measured "
        f"{peak_bytes / 1e9:.1f} GB/s (memory, {4 * _VECTOR / 2**20:.0f} MiB vector); caches serve part of them",
    ]


def _seconds(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    function(x).block_until_ready()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
