import contextlib
import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from edl_jax.cli import main as cli
from edl_jax.core import checkpoints, destination, environment, files
from edl_jax.core.errors import UserError
from edl_jax.core.inputs import Input
from edl_jax.core.runs import Run, read_checkpoint


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


def test_default_directories_of_the_same_second_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(destination.time, "strftime", lambda *_: "20260102-030405")
    alive = [Run.open("test", Config(), out=None) for _ in range(3)]
    paths = [run.path for run in alive]
    assert [path.name for path in paths] == ["test-20260102-030405" + end for end in ("", "-2", "-3")]
    assert {path.parent for path in paths} == {tmp_path / "runs"}


def test_existing_directory_is_refused_and_untouched(tmp_path):
    start(tmp_path / "run").finish({"accuracy": 1})
    before = tree(tmp_path)
    with pytest.raises(UserError, match="run exists: give --resume to continue it, --overwrite to replace it"):
        start(tmp_path / "run")
    assert tree(tmp_path) == before


def test_empty_directory_is_taken(tmp_path):
    (tmp_path / "run").mkdir()
    start(tmp_path / "run").close()
    assert (tmp_path / "run" / "config.json").is_file()


def test_overwrite_replaces_a_run(tmp_path):
    old = start(tmp_path / "run")
    old.log({"step": 1})
    old.save(1, make_state(1))
    old.finish({})
    (old.path / "link").symlink_to(tmp_path)
    new = start(tmp_path / "run", overwrite=True)
    assert {child.name for child in new.path.iterdir()} == {".lock", "config.json", "environment.json"}
    assert new.metrics() == []
    assert new.restore(make_state(0)) is None


def test_interrupted_overwrite_can_be_repeated(tmp_path, monkeypatch):
    run = start(tmp_path / "run")
    run.save(1, make_state(1))
    run.finish({})

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(destination.shutil, "rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", overwrite=True)
    monkeypatch.undo()
    new = start(tmp_path / "run", overwrite=True)
    assert {child.name for child in new.path.iterdir()} == {".lock", "config.json", "environment.json"}


def test_overwrite_works_through_a_link(tmp_path):
    start(tmp_path / "run").finish({})
    (tmp_path / "link").symlink_to(tmp_path / "run")
    start(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("content", [None, '{"model_type": "bert"}', "[1]", "null"])
def test_overwrite_deletes_nothing_but_runs(tmp_path, content):
    (tmp_path / "thesis.tex").write_text("years of work")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    before = tree(tmp_path)
    with pytest.raises(UserError, match="is no run directory"):
        start(tmp_path, overwrite=True)
    assert tree(tmp_path) == before


def test_overwrite_replaces_a_run_with_a_damaged_config(tmp_path):
    start(tmp_path / "run").finish({})
    (tmp_path / "run" / "config.json").write_text('{"command": "te')
    start(tmp_path / "run", overwrite=True)
    assert read(tmp_path / "run" / "config.json")["command"] == "test"


def test_resume_continues_a_run(tmp_path):
    first = start(tmp_path / "run")
    first.log({"step": 1})
    first.close()
    second = start(tmp_path / "run", resume=True)
    assert (first.resumed, second.resumed) == (False, True)
    second.log({"step": 2})
    assert second.metrics() == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_a_run_that_was_killed_before_its_config_was_written_starts(tmp_path, flag):
    none, alive, other = (tmp_path / name for name in (f".config.json.{10**12}.tmp", ".x.json.1.tmp", ".notes.tmp"))
    for path in (none, alive, other):
        path.write_text('{"comm')
    start(tmp_path, **{flag: True})
    assert read(tmp_path / "config.json")["command"] == "test"
    assert [path.exists() for path in (none, alive, other)] == [False, True, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (Config(lr=0.2), r"config.lr: 0.1 -> 0.2"),
        (Config(widths=(4,)), r"config.widths: \[4, 8\] -> \[4\]"),
        (Config(lr=0.2, widths=()), r"config.lr: 0.1 -> 0.2; config.widths: \[4, 8\] -> \[\]"),
    ],
)
def test_resume_with_another_config_names_the_keys(tmp_path, changes, message):
    start(tmp_path / "run").close()
    before = tree(tmp_path)
    with pytest.raises(UserError, match=rf"another config \({message}\)"):
        Run.open("test", changes, out=tmp_path / "run", resume=True)
    assert tree(tmp_path) == before


def test_resume_of_another_command_is_refused(tmp_path):
    start(tmp_path / "run").close()
    with pytest.raises(UserError, match="command: test -> other"):
        Run.open("other", Config(), out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("content", [b"", b'{"command": "te', b"[1]", b"null", b"\xff\xfe"])
def test_resume_with_a_damaged_config_says_so(tmp_path, content):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged .*: start again with --overwrite") as caught:
        start(tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)


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


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(UserError, match="--resume needs the run directory: give it with --out"):
        Run.open("test", Config(), out=None, resume=True)
    with pytest.raises(UserError, match="no run to resume at"):
        start(tmp_path / "nowhere", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="is no run directory"):
        start(tmp_path / "other", resume=True)
    with pytest.raises(UserError, match="contradict"):
        start(tmp_path / "nowhere", resume=True, overwrite=True)
    assert not (tmp_path / "nowhere").exists()


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


@pytest.mark.parametrize("resume", [False, True])
def test_paths_that_cannot_be_directories_are_refused_in_a_line(tmp_path, resume):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"give another --out|no run to resume") as caught:
            start(path, resume=resume)
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError), Run.preparing("test", Config(), out=path, resume=resume):
            raise AssertionError("work began")
    assert (tmp_path / "file").read_text() == "x"


def test_metrics_leaves_out_what_a_kill_cut(tmp_path):
    run = start(tmp_path / "run")
    run.log_all([{"step": 1, "x": 0.1}, {"step": 2, "x": 1e-30}])
    path = run.path / "metrics.jsonl"
    whole = path.read_text()
    for end in range(len(whole)):
        path.write_text(whole[:end])
        complete = whole[: end + 1].count("\n")  # a line that lacks nothing but its end counts
        assert run.metrics() == [{"step": 1, "x": 0.1}, {"step": 2, "x": 1e-30}][:complete]
    path.unlink()
    assert run.metrics() == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"17", "it holds a int"),
        (b'{"step": 2', "delimiter"),
        (b'{"step": "2"}', "step is a str, expected a number"),
        (b'{"step": \xff}', "invalid start byte"),
        (b"[" * 100_000, "nested too deeply"),
        (None, "has no line of step 2"),
        (b'{"step": 2, "x": null}', "has no x of step 2"),
        (b'{"step": 2, "x": NaN}', "it holds the number NaN"),
        (b'{"step": 2, "x": 1e999}', "it holds the number 1e999"),
        (b'{"step": 99999999999999999999}', "the number 99999999999999999999... is too large"),
    ],
)
def test_lines_behind_a_damaged_one_are_not_dropped(tmp_path, line, reason):
    run = start(tmp_path / "run")
    parts = (b'{"step": 1, "x": 1}', line, b'{"step": 3, "x": 0.5}', b"")
    content = b"\n".join(part for part in parts if part is not None)
    (run.path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        run.rewind("step", 3, needs=["x"])
    assert (run.path / "metrics.jsonl").read_bytes() == content


def test_rewind_drops_later_lines_and_a_cut_one(tmp_path):
    run = start(tmp_path / "run")
    rows = [{"step": step, "x": step / 3} for step in range(1, 6)]
    run.log_all(rows)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "x"')
    run.rewind("step", 3)
    run.log_all(rows[3:])
    assert (run.path / "metrics.jsonl").read_text() == "".join(json.dumps(row) + "\n" for row in rows)


def test_checkpoint_round_trip_keeps_every_leaf(tmp_path):
    run = start(tmp_path / "run")
    assert run.restore(make_state(0)) is None
    run.save(7, make_state(7))
    run.close()
    step, state = start(tmp_path / "run", resume=True).restore(make_state(0))
    assert step == 7
    assert_same(state, make_state(7))


def test_the_last_two_checkpoints_are_kept(tmp_path):
    run = start(tmp_path / "run")
    run.save(1, make_state(1))
    other = run.path / "checkpoints" / "07.safetensors"  # not ours: it is no step
    other.touch()
    for step in (2, 3):
        run.save(step, make_state(step))
    assert {path.name for path in other.parent.iterdir()} == {"2.safetensors", "3.safetensors", other.name}
    assert run.restore(make_state(0))[0] == 3
    run.checkpoints.delete()
    assert [*other.parent.iterdir()] == [other]


DAMAGE = {
    "truncated": lambda file: os.truncate(file, file.stat().st_size // 2),
    "flipped": lambda file: flip(file, 0.5),
    "flipped_name": lambda file: flip(file, file.read_bytes().index(b"counter") / file.stat().st_size),
    "emptied": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
}


def flip(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[round(len(content) * where)] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, damage):
    run = start(tmp_path / "run")
    for step in (1, 2):
        run.save(step, make_state(step))
    run.close()
    DAMAGE[damage](run.path / "checkpoints" / "2.safetensors")
    run = start(tmp_path / "run", resume=True)
    step, state = run.restore(make_state(0))
    assert step == 1
    assert_same(state, make_state(1))
    assert "checkpoint 2 in" in caplog.text
    assert "unreadable, going on from 1" in caplog.text
    # The damaged one is made again, and is the newest once more.
    run.save(2, make_state(22))
    run.close()
    step, state = start(tmp_path / "run", resume=True).restore(make_state(0))
    assert step == 2
    assert_same(state, make_state(22))


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ((checkpoints, "_read"), MemoryError()),
        ((checkpoints, "_read"), PermissionError(errno.EACCES, "Permission denied")),
        ((jax, "device_put"), RuntimeError("RESOURCE_EXHAUSTED: out of memory")),
    ],
)
def test_a_checkpoint_that_this_process_cannot_take_is_not_taken_for_damaged(tmp_path, monkeypatch, where, error):
    run = start(tmp_path / "run")
    for step in (1, 2):
        run.save(step, make_state(step))
    like, before = make_state(0), tree(run.path / "checkpoints")

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*where, fail)
        with pytest.raises(type(error)):
            run.restore(like)
    assert tree(run.path / "checkpoints") == before
    assert run.restore(like)[0] == 2


def test_a_run_of_which_no_checkpoint_is_readable_is_not_silently_begun_again(tmp_path):
    run = start(tmp_path / "run")
    run.log_all([{"step": 1}, {"step": 2}])
    for step in (1, 2):
        run.save(step, make_state(step))
    run.close()
    for step in "12":
        DAMAGE["truncated"](run.path / "checkpoints" / f"{step}.safetensors")
    run = start(tmp_path / "run", resume=True)
    with pytest.raises(UserError, match=r"no checkpoint in .*run/checkpoints can be read \(2: .*--overwrite") as caught:
        run.restore(make_state(0))
    assert "\n" not in str(caught.value)
    run.close()
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"1.safetensors", "2.safetensors"}
    assert run.metrics() == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"y": jnp.zeros(3)}, r"it has other arrays than this run, of which one is \['x'\]"),
        ({"x": jnp.zeros((3, 1))}, r"\['x'\] is \(3,\), expected \(3, 1\)"),
        ({"x": jnp.zeros(3, jnp.int32)}, "checksum"),
    ],
)
def test_checkpoints_of_another_structure_are_refused(tmp_path, other, reason):
    run = start(tmp_path / "run")
    run.save(1, {"x": jnp.zeros((3,))})
    with pytest.raises(UserError, match=rf"no checkpoint in .* can be read \(1: .*{reason}"):
        run.restore(other)


@pytest.mark.parametrize(
    "name", ["a [b] *?", "back\\slash", "two\nlines", "-dash", "ünïcödé 学习", "dot.", "{a,b}%41#$x$", "n" * 200]
)
def test_a_path_is_a_string_and_no_pattern(tmp_path, name):
    run = start(tmp_path / name / "run [1]")
    run.save(1, make_state(1))
    run.log({"step": 1})
    run.finish({})
    step, state = read_checkpoint(run.path, make_state(0))
    assert step == 1
    assert_same(state, make_state(1))
    assert start(run.path, resume=True).metrics() == [{"step": 1}]


def test_a_save_that_cannot_be_read_back_fails_and_leaves_the_ones_before(tmp_path, monkeypatch):
    run = start(tmp_path / "run")
    for step in (1, 2):
        run.save(step, make_state(step))
    before = tree(run.path / "checkpoints")
    monkeypatch.setattr(checkpoints, "write_atomic", lambda path, content: files.write_atomic(path, content[:-1]))
    with pytest.raises(UserError, match=r"checkpoint 3 in .*checkpoints is not what was written: .* another one"):
        run.save(3, make_state(3))
    assert tree(run.path / "checkpoints") == before


def test_write_atomic_replaces_the_file_or_leaves_it(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file.json"
    files.write_json(path, {"old": 1})

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"new": 2})
    assert tree(tmp_path) == {"new/file.json": b'{\n  "old": 1\n}\n'}
    monkeypatch.undo()
    files.write_json(path, {"new": 2})
    assert tree(tmp_path) == {"new/file.json": b'{\n  "new": 2\n}\n'}


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "1m"):
    """Mount a small file system at `folder`; skip where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write zeros to `path` until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


def test_full_disk_loses_nothing(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        run = start(disk / "run")
        run.log({"step": 1})
        run.save(1, make_state(1))
        fill(disk / "filler")
        with pytest.raises(Exception, match="No space left") as caught:
            run.save(2, make_state(2))
        assert "No space left" in cli._disk_message(caught.value)
        with pytest.raises(OSError, match="No space left"):
            run.log_all([{"step": 2, "x": "y" * 8192}])
        with pytest.raises(OSError, match="No space left"):
            run.finish({"accuracy": 1.0})
        with pytest.raises(OSError, match="No space left"):
            run.close()
        assert not (run.path / "result.json").exists()
        with pytest.raises((OSError, UserError), match="No space left"):
            start(disk / "other")
        (disk / "filler").unlink()
        run = start(disk / "run", resume=True)
        step, state = run.restore(make_state(0))
        assert step == 1
        assert_same(state, make_state(1))
        run.rewind("step", 1)
        run.log({"step": 2})
        run.save(2, make_state(2))
        run.finish({"accuracy": 1.0})
        assert run.metrics() == [{"step": 1}, {"step": 2}]
        start(disk / "other").close()


def test_version_of_every_dependency_that_decides_a_result_is_recorded():
    found = environment.versions()
    assert {"python", "jax", "jaxlib", "flax", "optax", "evosax", "numpy"} <= set(found)
    assert all(re.match(r"\d+\.\d+", version) for version in found.values())
