"""One process a run directory, and no lock that outlives its process."""

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys

import jax.numpy as jnp
import pytest

from edl_jax.core import lock
from edl_jax.core.errors import UserError
from edl_jax.core.lock import Lock, check_free
from edl_jax.core.runs import Run, read_checkpoint, read_metrics

ME = rf"is in use by process {os.getpid()} on {re.escape(socket.gethostname())}: wait for its end or stop it"


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1


def start(path, **flags):
    return Run.open("test", Config(), out=path, **flags)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["flock", "no flock"])
def locks(request, monkeypatch):
    """File systems with locks and without."""
    if request.param == "no flock":
        monkeypatch.setattr(lock, "fcntl", None)


@pytest.mark.usefixtures("locks")
@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}], ids=str)
def test_a_run_that_is_alive_is_read_but_not_written_by_another(tmp_path, flags):
    path = tmp_path / "run"
    run = start(path)
    run.log({"step": 1})
    run.save(1, {"x": jnp.zeros(2)})
    before = content(path)
    with pytest.raises(UserError, match=ME), Run.preparing("test", Config(), out=path, **flags):
        raise AssertionError("work began")
    with pytest.raises(UserError, match=ME):
        start(path, **flags)
    assert content(path) == before
    assert read_metrics(path) == [{"step": 1}]
    assert read_checkpoint(path, {"x": jnp.ones(2)})[0] == 1
    run.close()
    run.close()
    start(path, **flags or {"resume": True}).close()
    assert not (path / lock.FILENAME).exists()


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    code = "import sys, time; from pathlib import Path; from edl_jax.core.lock import Lock; "
    code += "held = Lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"is in use by process {process.pid} on "):
            Lock(tmp_path)
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / lock.FILENAME).exists()
    check_free(tmp_path)
    Lock(tmp_path).release()


def test_a_lock_whose_file_is_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    """Between opening the file and locking it, the process that held the lock may end and remove it."""
    take, calls = lock._take, []

    def removed_before(file, descriptor):
        if not calls:
            file.unlink()
        calls.append(descriptor)
        return take(file, descriptor)

    monkeypatch.setattr(lock, "_take", removed_before)
    held = Lock(tmp_path)
    monkeypatch.undo()
    assert len(calls) == 2
    with pytest.raises(UserError, match=ME):
        Lock(tmp_path)
    held.release()


HERE = {"pid": os.getpid(), "host": socket.gethostname()}


@pytest.mark.parametrize(
    ("owner", "warned"),
    [
        ({**HERE, "pid": 2**22 + 1, "started": "17"}, False),  # killed
        ({**HERE, "started": "17"}, False),  # killed, and its number is that of another process now
        ({**HERE, "host": "elsewhere", "started": "17"}, True),
        ({"pid": "1"}, False),
        ([1], False),
    ],
)
def test_without_flock_a_lock_of_a_process_that_may_be_gone_gives_way(tmp_path, monkeypatch, caplog, owner, warned):
    monkeypatch.setattr(lock, "fcntl", None)
    (tmp_path / lock.FILENAME).write_text(json.dumps(owner))
    check_free(tmp_path)
    held = Lock(tmp_path)
    assert len(caplog.records) == warned
    assert ("so whether process" in caplog.text) == warned
    with pytest.raises(UserError, match=ME):
        Lock(tmp_path)
    held.release()
