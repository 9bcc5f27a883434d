"""The directory of a run: what it holds, where it was made, and how it begins."""

import json
import os
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs_cases import RECORD, Config, make_state, read, start, tree

from edl_jax.core import environment
from edl_jax.core.errors import UserError
from edl_jax.core.inputs import Input
from edl_jax.core.runs import Run


def test_directory_holds_what_the_design_says(tmp_path):
    run = start(tmp_path / "deep" / "run")
    run.log({"step": 1, "loss": jnp.float32(0.5), "bad": float("nan"), "list": np.arange(2)})
    run.save(1, make_state(1))
    run.finish({"accuracy": np.float32(0.25), "infinite": float("inf")})
    path = run.path
    names = {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "result.json"}
    assert {child.name for child in path.iterdir()} == names
    assert read(path / "config.json") == RECORD
    assert (path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 0.5, "bad": null, "list": [0, 1]}\n'
    assert read(path / "result.json") == {"accuracy": 0.25, "infinite": None}


def test_environment_says_where_and_how_the_run_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/run.py", "test", "--lr", "0.1"])
    run = start(tmp_path / "run")
    record = read(run.path / "environment.json")
    assert record["command"] == ["run.py", "test", "--lr", "0.1"]
    assert record["device"] == {"platform": "cpu", "kind": "cpu", "count": jax.device_count()}
    assert record["versions"]["jax"] == jax.__version__
    assert {"python", "jaxlib", "flax", "evosax", "numpy", "orbax-checkpoint"} <= set(record["versions"])
    assert record["cpu_count"] == os.cpu_count()
    assert record["git_revision"] is None or re.fullmatch(r"[0-9a-f]{40}", record["git_revision"])
    assert record["finished"] is False
    assert record["wall_seconds"] >= 0.0
    run.finish({})
    assert read(run.path / "environment.json")["finished"] is True


def test_version_of_every_dependency_that_decides_a_result_is_recorded():
    found = environment.versions()
    assert {"python", "jax", "jaxlib", "flax", "optax", "evosax", "numpy"} <= set(found)
    assert all(re.match(r"\d+\.\d+", version) for version in found.values())


def test_wall_seconds_accumulate_over_resumes_even_after_a_kill(tmp_path):
    def wall():
        return read(tmp_path / "run" / "environment.json")["wall_seconds"]

    first = start(tmp_path / "run")
    first._start -= 50.0  # as if it had run that long
    first.close()
    assert 50.0 <= wall() < 52.0
    second = start(tmp_path / "run", resume=True)
    second._start -= 20.0
    second.save(1, {"x": jnp.zeros(2)})
    second._start -= 500.0
    del second  # killed: neither close nor finish is called
    third = start(tmp_path / "run", resume=True)
    third._start -= 1.0
    third.finish({})
    assert 71.0 <= wall() < 75.0


def test_inputs_are_what_the_run_began_with(tmp_path):
    def resume(**digests):
        inputs = {name: Input(f"{name} ./file", digest) for name, digest in digests.items()}
        start(tmp_path / "run", resume=True, inputs=inputs).close()

    start(tmp_path / "run").close()  # by an earlier release
    resume(loss="a")
    resume(loss="a", dataset="b")
    resume()  # interrupted before they were known
    before = tree(tmp_path)
    for changed in ({"loss": "c"}, {"loss": "a", "dataset": "c"}):
        with pytest.raises(UserError, match=rf"run: the content of {[*changed][-1]} ./file is not what .*; put that"):
            resume(**changed)
        assert tree(tmp_path) == before
    assert read(tmp_path / "run" / "config.json")["inputs"] == {"loss": "a", "dataset": "b"}
    (tmp_path / "run" / "config.json").write_text(json.dumps({**RECORD, "inputs": ["a"]}))
    with pytest.raises(UserError, match=r"config.json is damaged \(inputs is no mapping"):
        resume(loss="a")


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_is_interrupted_before_its_directory_is_open_can_be_resumed(tmp_path, earlier):
    path = tmp_path / "run"
    if earlier:
        start(path).finish({})
    before = tree(tmp_path)

    def prepare(error):
        with Run.preparing("test", Config(), out=path, overwrite=earlier):
            assert tree(tmp_path) == before
            raise error

    for error in (UserError, KeyboardInterrupt):
        with pytest.raises(error):
            prepare(error)
        assert (tree(tmp_path) == before) == (earlier or error is UserError)
    start(path, resume=True).close()


def test_work_that_was_done_before_opens_the_directory_it_was_done_for(tmp_path):
    start(tmp_path / "run").finish({})
    with Run.preparing("test", Config(lr=0.2), out=tmp_path / "run", overwrite=True) as open_run:
        assert (tmp_path / "run" / "result.json").is_file()
    open_run(inputs={"loss": Input("loss ./file", "a")}).close()
    expected = {"command": "test", "config": {"lr": 0.2, "widths": [4, 8]}, "inputs": {"loss": "a"}}
    assert read(tmp_path / "run" / "config.json") == expected
    assert not (tmp_path / "run" / "result.json").exists()
