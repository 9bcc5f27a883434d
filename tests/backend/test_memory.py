"""Runs that do not fit are refused with the number that would, before anything is allocated."""

import dataclasses
import functools
import os
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from edl_jax.backend import memory
from edl_jax.cli import main as cli
from edl_jax.core import config as presets
from edl_jax.core.errors import UserError
from edl_jax.pretrain import PretrainConfig, evolve as pretrain
from edl_jax.pretrain.generations import CompiledChunk, compile_chunk, make_evolution

DEBUG = presets.load_preset("pretrain", "debug", PretrainConfig())
MIB = 2**20


pytestmark = pytest.mark.usefixtures("quick_compilation")


class Compiled:
    """A program of R runs that each take `inputs` and hand on `search` bytes; `temporary` bytes in all."""

    def __init__(self, runs, inputs, search, temporary):
        self.stats = SimpleNamespace(
            argument_size_in_bytes=runs * (inputs + search),
            output_size_in_bytes=runs * search,
            alias_size_in_bytes=runs * search,
            temp_size_in_bytes=temporary,
        )

    def memory_analysis(self):
        return self.stats


def refusal(compiled, runs, population_size=16):
    with pytest.raises(UserError) as caught:
        memory.require_fit(compiled, runs, population_size)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def free(monkeypatch):
    """Set the bytes that are free, of which nine tenths may be used."""
    return lambda usable: monkeypatch.setattr(memory, "available_bytes", lambda: round(usable / 0.9) + 1)


@pytest.mark.parametrize(
    ("backend", "temporary"), [("cpu", lambda runs: (8 + runs) * MIB), ("gpu", lambda runs: 2 * MIB * runs)]
)
@pytest.mark.parametrize("fitting", [1, 7, 1000])
def test_the_number_that_would_fit(free, monkeypatch, backend, temporary, fitting):
    # On a CPU runs follow one another and share what they need for the moment; on a GPU each has its own.
    monkeypatch.setattr(jax, "default_backend", lambda: backend)

    def program(runs):
        return Compiled(runs, 3 * MIB, MIB, temporary(runs))

    free(4 * MIB * fitting + temporary(fitting))
    assert f": {fitting} would fit, give --runs {fitting}" in refusal(program(5000), 5000)
    memory.require_fit(program(fitting), fitting, 16)
    refusal(program(fitting + 1), fitting + 1)


@pytest.mark.parametrize("runs", [1, 100])
def test_a_run_too_large_names_the_settings_that_make_it_smaller(free, runs):
    free(10 * MIB)
    message = refusal(Compiled(runs, 9 * MIB, MIB, (29 + runs) * MIB), runs, population_size=1000)
    assert "a run of 1000 members would need 0.0 GiB of the 0.0 GiB that are free" in message
    assert "lower --population-size (about 225 would fit), --num-pairs or --held-out-pairs" in message
    message = refusal(Compiled(runs, 9 * MIB, MIB, (30_000 + runs) * MIB), runs, population_size=1000)
    assert "need 29.3 GiB" in message
    assert "lower --population-size, --num-pairs or --held-out-pairs" in message


def test_nothing_is_refused_where_memory_is_not_known(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    memory.require_fit(Compiled(10**9, 10**9, 0, 10**9), 10**9, 16)
    monkeypatch.undo()
    memory.require_fit(SimpleNamespace(memory_analysis=lambda: None), 10**9, 16)


def test_available_bytes_of_this_machine():
    found = memory.available_bytes()
    assert found is None or 2**20 < found < 2**50


def pretrain_refused(monkeypatch, capsys, tmp_path, evolution, *flags):
    """Return what `pretrain` says when it refuses `evolution`, of which nothing may run."""

    def refuse(*_, **__):
        raise AssertionError("something was allocated")

    evolution = evolution._replace(init=refuse, evolve=refuse, compile_others=lambda _: None)
    monkeypatch.setattr(pretrain, "make_evolution", lambda *_, **__: evolution)
    monkeypatch.setattr(pretrain, "solve_optimum", lambda _: None)
    out = tmp_path / "run"
    assert cli.main(["pretrain", "--config", "debug", "--out", str(out), *flags]) == 2
    printed, err = capsys.readouterr()
    assert printed == ""
    assert err.count("error: ") == 1
    assert not out.exists()
    return err[err.index("error: ") :]


def test_a_million_runs_are_refused_before_anything_is_allocated(free, tmp_path, monkeypatch, capsys):
    """XLA's analysis of the real program, for runs that no machine could hold."""
    free(256 * MIB)
    evolution = make_evolution(DEBUG, chunk=DEBUG.chunk)
    err = pretrain_refused(monkeypatch, capsys, tmp_path, evolution, "--runs", "1000000")
    found = re.fullmatch(
        r"error: 1000000 runs need [\d.]+ GiB of the 0\.3 GiB that are free: (\d+) would fit, give --runs \1\n", err
    )
    assert found, err
    assert 1 < int(found[1]) < 1_000_000


def test_a_population_too_large_is_refused(free, tmp_path, monkeypatch, capsys):
    free(64 * MIB)
    large = CompiledChunk(Compiled(1, MIB, MIB, 900 * MIB), None)
    evolution = make_evolution(DEBUG, chunk=DEBUG.chunk)._replace(compile=lambda _: large)
    err = pretrain_refused(monkeypatch, capsys, tmp_path, evolution, "--population-size", "1000000")
    assert err.startswith("error: a run of 1000000 members would need 0.9 GiB of the 0.1 GiB")
    assert re.search(r"lower --population-size \(about \d+ would fit\), --num-pairs or --held-out-pairs\n$", err)


@pytest.mark.parametrize("runs", [1000, 1_000_000])
def test_what_would_fit_does_fit_in_a_program_of_runs_in_turn(free, runs):
    """A program of the shape of evolution's: a map over runs, each a loop that carries what it was given."""

    @functools.partial(jax.jit, donate_argnums=0)
    def evolve(carried, inputs, count):
        def one(run):
            step = lambda _, x: jnp.tanh(x[:, None] * run[1][None, :]).sum(1)  # noqa: E731
            return jax.lax.fori_loop(0, count, step, run[0])

        return jax.lax.map(one, (carried, inputs))

    def compiled(runs):
        shapes = (jax.ShapeDtypeStruct((runs, size), jnp.float32) for size in (256, 1024))
        return evolve.lower(*shapes, jax.ShapeDtypeStruct((), jnp.int32)).compile()

    free(4 * MIB)
    fitting = int(re.search(r": (\d+) would fit", refusal(compiled(runs), runs))[1])
    memory.require_fit(compiled(fitting), fitting, 16)
    refusal(compiled(round(1.1 * fitting) + 1), round(1.1 * fitting) + 1)


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1_000_000, 2_000_000_000])
def test_what_would_fit_does_fit(free, runs):
    free(256 * MIB)
    evolution = make_evolution(DEBUG, chunk=DEBUG.chunk)
    fitting = int(re.search(r": (\d+) would fit", refusal(evolution.compile(runs).program, runs))[1])
    compile_chunk(evolution, fitting, 16)


@pytest.mark.slow
def test_a_population_that_would_fit_does_fit(free):
    def evolution(population_size):
        es = presets.override(DEBUG.es, {"population_size": population_size})
        return make_evolution(dataclasses.replace(DEBUG, es=es), chunk=DEBUG.chunk)

    free(64 * MIB)
    message = refusal(evolution(1_000_000).compile(1).program, 1, 1_000_000)
    fitting = int(re.search(r"about (\d+) would fit", message)[1])
    compile_chunk(evolution(fitting), 1, fitting)


@pytest.mark.parametrize(("content", "limit"), [("1048576\n", 1 << 20), ("max\n", None), (None, None)])
def test_a_container_s_limit_counts_where_it_is_smaller(tmp_path, monkeypatch, content, limit):
    monkeypatch.setattr(memory, "_LIMIT_FILES", (tmp_path / "memory.max", tmp_path / "absent"))
    if content is not None:
        (tmp_path / "memory.max").write_text(content)
    assert memory.total_bytes() == (limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
