"""Runs of stage 1 that were killed, stopped or damaged go on, and are those of an uninterrupted run."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from pretrain_cases import (
    DEBUG,
    FIGURES,
    FILES,
    RESULT,
    START,
    assert_same_run,
    measured,
    read,
    rows_of,
    run_here,
    stub,
    untimed,
)

from edl_jax.cli import main as cli
from edl_jax.core import config as presets
from edl_jax.core.runs import Run
from edl_jax.pretrain import evolve as pretrain

pytestmark = pytest.mark.usefixtures("drawn")


def wait_for(path, process):
    deadline = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.fixture(scope="module")
def killed_run(debug_run, command, tmp_path_factory):
    """Directory of a run of preset `debug` that was killed after two generations, in a shell."""
    directory = tmp_path_factory.mktemp("killed") / "run"
    process = command("--config", "debug", "--out", directory)
    wait_for(directory / "checkpoints" / "2.safetensors", process)
    process.send_signal(signal.SIGKILL)
    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGKILL
    assert not (directory / "result.json").exists()
    return directory


@pytest.fixture(scope="module")
def resumed_run(killed_run, drawn, tmp_path_factory):
    """A copy of the killed run that was resumed to its end: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("resumed") / "run"
    shutil.copytree(killed_run, directory)
    return run_here(directory, "--resume")


def test_kill_9_and_resume_equal_an_uninterrupted_run(resumed_run, debug_run):
    assert_same_run(resumed_run[0], debug_run[0])


def test_command_writes_the_run_directory(killed_run, resumed_run):
    directory, out = resumed_run
    result = read(directory / "result.json")
    shown = [" ".join(line.split()) for line in out.splitlines()]
    assert shown[:2] == [
        f"held-out ranking accuracy {result['ranking_accuracy']:.4f}",
        f"fitness over optimum's {result['fitness_ratio']:.4f}",
    ]
    assert f"R^2 with optimum {result['r_squared']['optimum']:.4f}" in shown
    assert shown[-1] == f"loss artifact: {directory / 'loss.safetensors'}"
    assert {path.name for path in directory.iterdir() if path.suffix != ".tmp"} == FILES  # a kill may leave one
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"4.safetensors", "6.safetensors"}
    assert {path.name for path in (directory / "figures").iterdir()} == FIGURES
    assert read(directory / "config.json") == {"command": "pretrain", "config": presets.to_dict(DEBUG)}
    assert read(killed_run / "environment.json")["command"][:3] == ["run.py", "pretrain", "--config"]
    environment = read(directory / "environment.json")
    assert environment["finished"] is True
    assert 0 < result["seconds_this_session"] < environment["wall_seconds"]
    assert result["seconds_compiling"] > 0
    assert set(result) == RESULT | {"artifact", "generations", "seconds_compiling", "seconds_this_session", "seed"}


def test_a_run_that_is_stopped_within_a_chunk_goes_on_at_the_next_generation(debug_run, tmp_path, monkeypatch, capsys):
    rows = pretrain._rows

    def stopped(*args):  # after the first call of the program, which is one generation of the two of a chunk
        signal.raise_signal(signal.SIGUSR1)
        return rows(*args)

    shown = min(str(tmp_path / "run"), os.path.relpath(tmp_path / "run"), key=len)
    line = ["pretrain", "--config", "debug", "--out", str(tmp_path / "run"), "--requeue-signal", "USR1"]
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "_rows", stopped)
        assert cli.main(line) == 128 + signal.SIGUSR1
    said = f"stopped by SIGUSR1 after generation 1 of 6: give the same command with --out {shown} and --resume"
    assert capsys.readouterr().err == f"{said} to go on\n"
    assert [row["generation"] for row in rows_of(tmp_path / "run")] == [1]
    assert_same_run(run_here(tmp_path / "run", "--resume")[0], debug_run[0])


def test_api_resumes_over_a_damaged_checkpoint_and_a_cut_line(debug_run, tmp_path, caplog):
    directory = tmp_path / "run"
    shutil.copytree(debug_run[0], directory)
    (directory / "result.json").unlink()
    (directory / "loss.safetensors").unlink()
    os.truncate(directory / "checkpoints" / "6.safetensors", 100)
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"generation": 7, "fitness_be')
    result = pretrain.run(DEBUG, out=directory, resume=True)
    assert result == read(directory / "result.json")
    assert result["artifact"] == str(directory / "loss.safetensors")
    assert "checkpoint 6 in" in caplog.text
    assert_same_run(directory, debug_run[0])


def test_without_a_checkpoint_a_resumed_run_starts_over(tmp_path, monkeypatch):
    # Killed between the first metrics and the first checkpoint.
    run = Run.open("pretrain", DEBUG, out=tmp_path / "run")
    run.log_all([{"generation": 1}, {"generation": 2}])
    run.close()

    def evolve(*_):
        raise InterruptedError

    stub(monkeypatch, evolve)
    with pytest.raises(InterruptedError):
        pretrain.run(DEBUG, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_unreadable_checkpoints_stop_the_run_in_one_line(tmp_path, monkeypatch, capsys):
    stub(monkeypatch, lambda search, *_: (search, {}))
    run = Run.open("pretrain", DEBUG, out=tmp_path / "run")
    run.log_all([{"generation": 1}, {"generation": 2}])
    run.save(2, START)
    run.close()
    os.truncate(run.path / "checkpoints" / "2.safetensors", 100)
    assert cli.main(["pretrain", "--config", "debug", "--out", str(run.path), "--resume"]) == 2
    err = capsys.readouterr().err
    assert "can be read (2: " in err
    assert err.count("\n") == 1
    assert len(run.metrics()) == 2


@pytest.mark.slow
def test_a_killed_run_resumed_in_a_shell_is_silent_and_the_same(killed_run, command, debug_run, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(killed_run, directory)
    process = command("--config", "debug", "--out", directory, "--resume")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == f"loss artifact: {directory / 'loss.safetensors'}"
    assert {path.name for path in (directory / "figures").iterdir()} == FIGURES
    assert all(path.stat().st_size > 10_000 for path in (directory / "figures").iterdir())
    # Not the artifact, which the command calibrates for more numbers of classes.
    assert measured(read(directory / "result.json")) == measured(read(debug_run[0] / "result.json"))
    assert untimed(rows_of(directory)) == untimed(rows_of(debug_run[0]))


@pytest.mark.slow
def test_full_disk_is_one_line_and_the_resumed_run_is_the_same(debug_run, tmp_path, monkeypatch, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    original = Run.save

    def fill_first(self, step, state):
        if step == 4:
            with (disk / "filler").open("wb", buffering=0) as file:
                while (disk / "filler").stat().st_size < 2**21 and os.statvfs(disk).f_bavail:
                    file.write(b"\0" * 4096)
        original(self, step, state)

    try:
        monkeypatch.setattr(Run, "save", fill_first)
        line = ["pretrain", "--config", "debug", "--out", str(disk / "run")]
        assert cli.main(line) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "No space left on device; make room" in err
        (disk / "filler").unlink()
        monkeypatch.undo()
        assert cli.main([*line, "--resume"]) == 0
        assert_same_run(disk / "run", debug_run[0])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
