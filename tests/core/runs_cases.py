"""A small run: its config, a state with leaves of every kind, and what is looked at of a directory."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from edl_jax.core.runs import Run


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    widths: tuple[int, ...] = (4, 8)


RECORD = {"command": "test", "config": {"lr": 0.1, "widths": [4, 8]}}


@struct.dataclass
class Strategy:
    mean: jax.Array
    counter: jax.Array
    empty: jax.Array


class State(NamedTuple):
    strategy: Any
    generation: jax.Array
    extra: Any


def make_state(value: int) -> State:
    """A state with every kind of leaf that a run has: scalars, integers, booleans, bfloat16, no elements."""
    return State(
        strategy=Strategy(
            mean=jnp.arange(4096.0) + value,
            counter=jnp.int32(value),
            empty=jnp.zeros((0, 5), jnp.float32),
        ),
        generation=jnp.full((), value, jnp.int32),
        extra={
            "nested": (jnp.full((3,), value, jnp.bfloat16), [jnp.array([True, False])]),
            "nothing": None,
            "numpy": np.full((2, 2), value, np.uint8),
            "infinite": jnp.array([jnp.inf, jnp.nan, -0.0], jnp.float32),
        },
    )


def assert_same(found: Any, expected: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def start(path: Path, **keywords: Any) -> Run:
    return Run.open("test", Config(), out=path, **keywords)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
