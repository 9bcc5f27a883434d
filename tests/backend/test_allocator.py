"""Steps of a training reuse the memory of the step before."""

import subprocess
import sys

import pytest

from edl_jax.backend import allocator

PROGRAM = """
import resource
from edl_jax.backend import allocator
kept = allocator.keep_freed_memory()
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.sum(jnp.abs(x @ x.T), 0)[:, None] * x * 1e-9)  # 64 MB in between
x = jnp.ones((4096, 16))
for _ in range(3):
    x = step(x)
    x.block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    x = step(x)
    x.block_until_ready()
print(kept, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 3)
"""


def run(**environment):
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    kept, faults = done.stdout.split()
    return kept == "True", float(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_no_page_faults_after_the_first_steps():
    kept, faults = run(JAX_PLATFORMS="cpu")
    if not kept:
        pytest.skip("no glibc")
    assert faults < 2**26 / 4096 / 2


def test_what_the_user_sets_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert not allocator.keep_freed_memory()
