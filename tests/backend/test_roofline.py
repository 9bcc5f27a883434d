"""What `pretrain --profile` prints."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax.backend import roofline as profile


@pytest.fixture
def small(monkeypatch):
    """Ceilings of a size that takes no time."""
    monkeypatch.setattr(profile, "_MATRIX", 64)
    monkeypatch.setattr(profile, "_VECTOR", 1 << 18)
    monkeypatch.setattr(profile, "_REPEATS", 2)


def numbers(line):
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?", line)]


def test_ceilings_are_rates_of_this_machine(small):
    flops, moved = profile.ceilings()
    assert 1e6 < flops < 1e18
    assert 1e6 < moved < 1e15


def test_lines_divide_what_a_generation_costs_by_the_ceilings(monkeypatch):
    monkeypatch.setattr(profile, "ceilings", lambda: (50e9, 8e9))
    compiled = SimpleNamespace(cost_analysis=lambda: {"flops": 5e6, "bytes accessed": 2e6})
    first, cost, arithmetic, operands = profile.lines(compiled, 400.0)
    assert first == "profile: 400.0 generations/s without compilation"
    assert "5.0 MFLOP and 2.0 MB" in cost
    assert "2.00 GFLOP/s, 4.0 % of a measured 50.0 GFLOP/s" in arithmetic
    assert "0.80 GB/s, 10.0 % of a measured 8.0 GB/s" in operands


def test_lines_of_a_real_program(small):
    def step(x):
        return jax.lax.fori_loop(0, 10, lambda _, x: jnp.tanh(x @ x), x)

    compiled = jax.jit(step).lower(jnp.ones((256, 256))).compile()
    lines = profile.lines(compiled, 20.0)
    assert len(lines) == 4
    for line in lines:
        assert np.all(np.isfinite(numbers(line)))
        assert np.all(np.array(numbers(line)) > 0.0), line
    # The body counts once: a product of 256 x 256 matrices.
    assert numbers(lines[1])[0] == pytest.approx(2 * 256**3 / 1e6, rel=0.05)


def test_a_program_without_a_cost_analysis(small):
    assert len(profile.lines(SimpleNamespace(cost_analysis=lambda: None), 1.0)) == 4
