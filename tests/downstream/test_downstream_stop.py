"""A run of stage 2 that is stopped by a signal at a given step, and resumed, has the numbers of one that was not."""

import signal

import numpy as np
import pytest
from downstream_cases import SMALL, changed, numbers, rows_of, run
from safetensors.numpy import load_file

from edl_jax.core.signals import Signals
from edl_jax.core.stopping import Stopped
from edl_jax.training.progress import Progress

STEPS = SMALL.train_size // SMALL.batch_size


@pytest.fixture
def stopped(monkeypatch):
    """Return (config, directory, after) -> what a run says that SIGTERM meets after so many steps of its own."""

    def start(config, directory, after):
        enough, left = Progress.enough, [after]

        def meet(self, done):
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGTERM)
            return enough(self, done)

        with monkeypatch.context() as patch, Signals(own_process=False) as signals:
            patch.setattr(Progress, "enough", meet)
            with pytest.raises(Stopped) as caught:
                run(config, out=directory, stop=signals.stop, resume=directory.is_dir())
        return str(caught.value)

    return start


def assert_same(directory, result, finished):
    assert numbers(result) == numbers(finished[1])
    assert [numbers(row) for row in rows_of(directory)] == [numbers(row) for row in rows_of(finished[0])]
    ours, theirs = (
        load_file(path / "checkpoints" / f"{SMALL.epochs}.safetensors") for path in (directory, finished[0])
    )
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []
    assert result["wall_seconds"] >= sum(row["seconds"] for row in rows_of(directory)) - 0.02  # rounded
    assert not (directory / "stopped").exists()


def kept(directory):
    return [path.name for path in (directory / "stopped").iterdir()], [row["epoch"] for row in rows_of(directory)]


def test_a_run_that_is_stopped_within_epochs_goes_on_at_the_next_step(tmp_path, stopped, finished, caplog):
    directory, config = tmp_path / "a run", changed(checkpoint_every=3)
    line = f"stopped by SIGTERM after step {STEPS + 3} of {4 * STEPS}: give the same command with --out "
    said = stopped(config, directory, STEPS + 3)
    assert said.startswith(line)
    assert said.endswith("/a run' and --resume to go on")
    assert kept(directory) == ([f"{STEPS + 3}.safetensors"], [1])
    # Again in that epoch, and then where an epoch is trained but not evaluated.
    assert f"after step {STEPS + 5} of" in stopped(config, directory, 2)
    assert kept(directory)[1] == [1]
    assert f"after step {2 * STEPS} of" in stopped(config, directory, STEPS - 5)
    assert kept(directory)[1] == [1]
    assert_same(directory, run(config, out=directory, resume=True), finished)
    assert caplog.text == ""


def test_the_part_of_an_epoch_that_is_outdated_or_damaged_is_not_gone_on_from(tmp_path, stopped, finished, caplog):
    directory = tmp_path / "run"
    stopped(SMALL, directory, STEPS + 3)
    part = directory / "stopped" / f"{STEPS + 3}.safetensors"
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    stopped(SMALL, directory, STEPS)  # the whole second epoch: the first was stored
    assert f"what {part.parent} holds is unreadable: going on from the last whole epoch" in caplog.text
    assert [path.name for path in part.parent.iterdir()] == [f"{2 * STEPS}.safetensors"]
    stopped(SMALL, directory, 2)
    caplog.clear()
    for old in part.parent.iterdir():
        old.unlink()
    part.write_bytes(whole)  # as a process leaves it that is killed between two files
    assert_same(directory, run(SMALL, out=directory, resume=True), finished)
    assert caplog.text == ""


@pytest.mark.slow  # they compile other programs; real processes are stopped in tests/cli/test_stop.py
@pytest.mark.parametrize("loop", ["stream", "scan"])
def test_other_loops_stop_too(tmp_path, stopped, loop, monkeypatch):
    config = changed(loop=loop, val_size=32)
    uninterrupted = tmp_path / "whole", run(config, out=tmp_path / "whole")
    if loop == "stream":
        assert f"after step {STEPS + 3} of" in stopped(config, tmp_path / "run", STEPS + 3)
    else:  # a scan is not watched: the signal comes before it
        monkeypatch.setattr(Progress, "start_epoch", lambda self, done=0: self.enough(done))
        assert f"after step {STEPS} of" in stopped(config, tmp_path / "run", 1)
    assert_same(tmp_path / "run", run(config, out=tmp_path / "run", resume=True), uninterrupted)
