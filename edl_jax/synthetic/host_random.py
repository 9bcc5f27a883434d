"""The numbers of `jax.random` on the host: the same bits for the same key, without a program to compile.

A draw that happens once takes longer to compile than to make: one program of `mixture.sample` takes most of a second.
NumPy's Threefry-2x32 of the same counters (Salmon et al. 2011, SC11, "Parallel random numbers: as easy as 1, 2, 3")
gives the bits of `jax.random` with its default settings; `supports` says whether those hold.
"""

import jax
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
# Counters of a block: what is worked on stays in the cache.
_BLOCK = 1 << 15

Key = tuple[np.uint32, np.uint32]


def supports(key: jax.Array) -> bool:
    """Return whether the numbers of `jax.random` for `key` can be made here."""
    if isinstance(key, jax.core.Tracer) or not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return False
    return str(jax.random.key_impl(key)) == "threefry2x32"


def key_of(key: jax.Array) -> Key:
    """Return a key of `jax.random` as two words."""
    first, second = np.asarray(jax.random.key_data(key))
    return first, second


def split(key: Key, count: int) -> list[Key]:
    """Return `count` keys, those of `jax.random.split`."""
    first, second = _hash(key, 0, count)
    return list(zip(first, second, strict=True))


def uniform(key: Key, count: int, low: float = 0.0) -> np.ndarray:
    """Return `[count]` float32 in [low, 1), those of `jax.random.uniform` with `minval=low`."""
    floats = ((_bits(key, count) >> np.uint32(9)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1.0)
    least = np.float32(low)
    return np.maximum(floats * (np.float32(1.0) - least) + least, least)


def integers(key: Key, count: int, low: int, high: int) -> np.ndarray:
    """Return `[count]` int32 in [low, high), those of `jax.random.randint`."""
    upper, lower = (_bits(half, count) for half in split(key, 2))
    span = np.uint32(high - low)
    multiplier = np.uint32(pow(2, 32, int(span)))
    return (low + ((upper % span) * multiplier + lower % span) % span).astype(np.int32)


def _bits(key: Key, count: int) -> np.ndarray:
    found = np.empty(count, np.uint32)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        np.bitwise_xor(*_hash(key, start, stop), out=found[start:stop])
    return found


def _hash(key: Key, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both words `[stop - start]` of Threefry-2x32, 20 rounds, of the counters from start to below stop."""
    with np.errstate(over="ignore"):  # sums of words wrap round
        keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
        x, y = np.full(stop - start, keys[0], np.uint32), np.arange(start, stop, dtype=np.uint32) + keys[1]
        spill = np.empty_like(y)
        for group in range(5):
            for rotation in _ROTATIONS[group % 2]:
                x += y
                np.right_shift(y, np.uint32(32 - rotation), out=spill)
                y <<= np.uint32(rotation)
                y |= spill
                y ^= x
            x += keys[(group + 1) % 3]
            y += keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y
