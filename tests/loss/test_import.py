"""`import edl_jax.loss` is light: other people's pipelines import it."""

import subprocess
import sys
import time

import pytest

from edl_jax import loss

HEAVY = ("equinox", "evosax", "matplotlib", "orbax", "pandas", "sympy", "tensorflow_datasets", "torch", "tyro")


def run(code):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout


def test_nothing_heavy_is_imported():
    loaded = run("import sys, edl_jax.loss; print(*{name.split('.')[0] for name in sys.modules})")[1].split()
    assert {"jax", "flax"} <= set(loaded)
    assert not set(HEAVY) & set(loaded)


@pytest.mark.slow
def test_the_import_takes_little_more_than_that_of_jax_flax_and_optax():
    # Least of several, in turns: other load can only add time.
    times = [(run("import jax, flax, optax")[0], run("import edl_jax.loss")[0]) for _ in range(7)]
    theirs, ours = (min(column) for column in zip(*times, strict=True))
    assert ours <= 1.3 * theirs


def test_public_names_exist_and_are_listed():
    assert sorted(loss.__all__) == loss.__all__
    for name in loss.__all__:
        assert getattr(loss, name).__doc__, name
