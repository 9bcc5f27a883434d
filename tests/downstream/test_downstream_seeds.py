"""`run.py downstream --seeds`: several runs, one compilation; `--profile`."""

import dataclasses
import json
import re
import statistics

import jax.numpy as jnp
import numpy as np
import pytest
from downstream_cases import SMALL, numbers, rows_of, run

from edl_jax import downstream, loss
from edl_jax.backend import roofline as profile
from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run
from edl_jax.downstream import task as tasks
from edl_jax.downstream.seeds import COMMAND
from edl_jax.downstream.train import Extras
from edl_jax.study import summary


def run_seeds(config, seeds, **keywords):
    return downstream.run_seeds(config, seeds, figures=False, **keywords)


MADE = {}


@pytest.fixture
def several(tmp_path_factory, compilations, own_programs):
    """Runs of two seeds, made once: their directory, their result, and a Counter of what they compiled."""
    if not MADE:
        out = tmp_path_factory.mktemp("seeds") / "out"
        with own_programs(), compilations() as counts:
            MADE["several"] = (out, run_seeds(SMALL, (3, 0), out=out), counts)
    return MADE["several"]


def test_each_run_is_that_of_its_seed_alone(several, finished):
    out, result, _ = several
    single, expected = finished
    assert numbers(json.loads((out / "seed-0" / "result.json").read_text())) == numbers(expected)
    assert [numbers(row) for row in rows_of(out / "seed-0")] == [numbers(row) for row in rows_of(single)]
    assert (out / "seed-0" / "config.json").read_text() == (single / "config.json").read_text()
    for name in ("checkpoints/4.safetensors", "report.json", "environment.json"):
        assert (out / "seed-0" / name).exists()
    assert json.loads((out / "result.json").read_text()) == result


def test_result_is_mean_and_sample_deviation(several):
    out, result, _ = several
    assert result["seeds"] == [3, 0]
    assert [run["seed"] for run in result["runs"]] == [3, 0]
    for name in ("test_accuracy", "test_nll"):
        values = [json.loads((out / f"seed-{seed}" / "result.json").read_text())[name] for seed in (3, 0)]
        assert values[0] != values[1]
        assert result["mean"][name] == pytest.approx(statistics.fmean(values))
        assert result["std"][name] == pytest.approx(statistics.stdev(values))
    assert result["diverged"] == {}


def test_summarize_takes_the_directory(several):
    groups = summary.read([several[0]])
    assert [result["seed"] for result in groups["cross_entropy"]] == [3, 0]
    assert "| cross_entropy | 0 3 |" in summary.table(groups)
    assert summary._SEEDS == COMMAND
    with pytest.raises(UserError, match=r"same loss and seed \(cross_entropy, 0\)"):
        summary.read([several[0], several[0] / "seed-0"])


def test_all_seeds_share_one_compilation(several):
    _, result, counts = several
    assert result["runs"][1]["compile_seconds"] == 0.0 < result["runs"][0]["compile_seconds"]
    counts.pop("jit(stage)", None)  # Orbax's
    ours = {name: count for name, count in counts.items() if re.search("train_batch|eval_step|init|draw_order", name)}
    assert len(ours) >= 4
    assert max(counts.values()) == 1, counts


class Killed(BaseException):
    """Stands for a kill between two statements."""


def test_resume_keeps_finished_seeds_continues_the_others_and_adds_further_ones(several, tmp_path, monkeypatch):
    original, calls = Run.log, []

    def die_after(self, row):
        original(self, row)
        calls.append(row)
        if len(calls) == 8:  # the last epoch of the second run, before its checkpoint
            raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", die_after)
        with pytest.raises(Killed):
            run_seeds(SMALL, (3, 0), out=out)
    assert not (out / "result.json").exists()
    before = (out / "seed-3" / "environment.json").read_bytes()
    for seeds in ((0, 3), (3,), (3, 1, 0)):
        with pytest.raises(UserError, match=r"another config \(config.seeds: \[3, 0\] -> \["):
            run_seeds(SMALL, seeds, out=out, resume=True)
    # Further seeds may follow; settings that are not typed are those of the runs.
    line = ["downstream", "--out", str(out), "--resume", "--seeds", "3", "0", "7"]
    with monkeypatch.context() as patch:
        patch.setattr("edl_jax.downstream.seeds.Extras", lambda *_, **__: Extras(figures=False))
        assert cli.main(line) == 0
    resumed = json.loads((out / "result.json").read_text())
    assert resumed["seeds"] == [3, 0, 7]
    assert (out / "seed-3" / "environment.json").read_bytes() == before
    assert [numbers(run) for run in resumed["runs"][:2]] == [numbers(run) for run in several[1]["runs"]]


def test_a_seed_that_diverges_is_reported_and_the_others_run(tmp_path, monkeypatch, capsys, caplog):
    prepare = tasks.prepare_task
    cross_entropy = loss.get("cross_entropy")
    # One seed has labels that the loss turns into NaN.
    monkeypatch.setattr(
        tasks.loss, "get", lambda name: lambda z, y: jnp.where(jnp.all(y == 0), jnp.nan, cross_entropy(z, y))
    )

    def spoiled(config, *args):
        task = prepare(config, *args)
        return dataclasses.replace(task, labels=np.zeros_like(task.labels)) if config.seed == 1 else task

    monkeypatch.setattr("edl_jax.downstream.seeds.prepare_task", spoiled)
    monkeypatch.setattr("edl_jax.plot.classifier.draw", lambda *_, **__: None)
    out = tmp_path / "out"
    line = f"downstream --config debug --train-size 256 --out {out} --seeds 0 1 2"
    assert cli.main(line.split()) == 3
    shown = capsys.readouterr()
    assert "cross_entropy on digits, seeds 0 2: test accuracy 0." in shown.out
    assert " ± " in shown.out
    assert shown.err.splitlines()[-1] == "error: 1 of 3 seeds diverged: 1"
    assert "seed 1: training with loss cross_entropy became non-finite at step 0" in caplog.text
    result = json.loads((out / "result.json").read_text())
    assert result["seeds"] == [0, 2]
    assert "non-finite at step 0" in result["diverged"]["1"]
    assert not (out / "seed-1" / "result.json").exists()


@pytest.mark.slow
def test_profile_writes_a_trace_and_changes_no_number(tmp_path, monkeypatch, capsys, finished):
    monkeypatch.setattr(profile, "_MATRIX", 64)
    monkeypatch.setattr(profile, "_VECTOR", 1 << 18)
    profiled = run(SMALL, out=tmp_path / "run", profile=True)
    assert numbers(profiled) == numbers(finished[1])
    out = capsys.readouterr().out
    trace = next((tmp_path / "run" / "profile").rglob("*.trace.json.gz"))
    assert trace.stat().st_size > 500
    assert f"at https://ui.perfetto.dev: open {trace}" in out
    assert f"tensorboard --logdir {tmp_path / 'run' / 'profile'}" in out
    assert "trace of 8 steps" in out
    assert float(re.search(r"profile: ([\d,.]+) images/s", out)[1].replace(",", "")) > 0
    # 26,122 parameters, 32 images: about 2 operations forwards and 4 backwards for each weight.
    gflop = float(re.search(r"one step: (\S+) GFLOP", out)[1])
    assert gflop == pytest.approx(6 * 26_122 * 32 / 1e9, rel=0.4)
