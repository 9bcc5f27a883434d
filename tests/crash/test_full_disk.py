"""A disk that fills up at a random moment: one line, and after room is made the uninterrupted numbers."""

import os
import subprocess

import pytest
from crash_cases import COMMANDS, finish, moments, numbers

# What is drawn is the room that is left: between none and all that a run takes.
ROOMS = {name: 4 if name in ("pretrain", "ablate") else 3 for name in COMMANDS}
_BLOCK = 4096


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 MiB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moment"), [(name, i) for name, count in ROOMS.items() for i in range(count)])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(name, moment, whole, disk):
    expected, _, size = whole(name)
    room = int(moments(f"{name} disk", ROOMS[name])[moment] * size) // _BLOCK * _BLOCK
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(disk).f_bavail * _BLOCK - room)
    out = disk / "run"
    full = finish(name, out)
    told = f"{name} with room for {room} of {size} bytes:\n{full.err}"
    if full.code != 0:  # files take whole blocks, so that most of the room is too little
        assert full.code == 2, told
        assert len(full.errors) == 1, told
        assert "Traceback" not in full.err, told
    filler.unlink()
    ended = finish(name, out)
    assert ended.code == 0, f"{told}\nresumed:\n{ended.err}"
    assert numbers(out) == expected, told
