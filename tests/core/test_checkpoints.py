"""Checkpoints come back to the bit, or are refused: damaged, of another structure, or not kept by the disk."""

import errno
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from runs_cases import assert_same, make_state, start, tree

from edl_jax.core import checkpoints, files
from edl_jax.core.errors import UserError

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


def test_a_save_that_cannot_be_read_back_fails_and_leaves_the_ones_before(tmp_path, monkeypatch):
    run = start(tmp_path / "run")
    for step in (1, 2):
        run.save(step, make_state(step))
    before = tree(run.path / "checkpoints")
    monkeypatch.setattr(checkpoints, "write_atomic", lambda path, content: files.write_atomic(path, content[:-1]))
    with pytest.raises(UserError, match=r"checkpoint 3 in .*checkpoints is not what was written: .* another one"):
        run.save(3, make_state(3))
    assert tree(run.path / "checkpoints") == before


def test_text_of_any_length_is_kept_and_a_damaged_one_costs_a_step(tmp_path, caplog):
    kept = checkpoints.Checkpoints(tmp_path)
    assert kept.restore_text(str) is None
    for step, text in enumerate(("", "π" * 10, "x" * 5000), 1):
        kept.save_text(step, text)
        assert kept.restore_text(str) == (step, text)
    newest = tmp_path / "3.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"y")
    assert kept.restore_text(str) == (2, "π" * 10)
    assert "checkpoint 3" in caplog.text

    def refuse(text):
        raise UserError("this is no state")

    with pytest.raises(UserError, match="this is no state"):
        kept.restore_text(refuse)
