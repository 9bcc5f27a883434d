"""Files that are written whole or not at all, on a disk that is full."""

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest
from runs_cases import assert_same, make_state, start, tree

from edl_jax.cli import main as cli
from edl_jax.core import files
from edl_jax.core.errors import UserError


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
