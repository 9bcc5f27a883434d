"""Leases of cells: one worker has each, and a dead one is followed by another."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from edl_jax.core.errors import UserError
from edl_jax.study.compare import leases as module
from edl_jax.study.compare.leases import Leases, LeaseTimes, is_dead, this_process

# The thread of a lease does nothing within a test: renewals are called.
TIMES = LeaseTimes(renew=1000.0, expire=10_000.0)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def elsewhere(monkeypatch):
    """Owners are not known to be dead: as if every one were on another machine."""
    monkeypatch.setattr(module, "is_dead", lambda owner: False)


def leases(folder, clock):
    return Leases(folder / "leases", TIMES, clock)


def test_one_worker_has_a_cell_until_it_lets_go(tmp_path, clock):
    one, two = leases(tmp_path, clock), leases(tmp_path, clock)
    lease = one.take("cell")
    assert two.take("cell") is None
    assert two.take("other") is not None
    lease.release()
    assert two.take("cell") is not None
    assert one.take("cell") is None
    assert one.attempts("cell") == 1  # the first worker let go of it


@pytest.mark.usefixtures("elsewhere")
def test_a_lease_that_is_not_renewed_is_taken_over_and_its_worker_notices(tmp_path, clock):
    one, two = leases(tmp_path, clock), leases(tmp_path, clock)
    lost = one.take("cell")
    assert two.take("cell") is None  # seen for the first time
    clock.now = TIMES.expire
    assert two.take("cell") is None  # not a moment too soon
    clock.now += 1.0
    taken = two.take("cell")
    assert taken is not None
    assert not lost.lost
    lost.renew()
    assert lost.lost
    assert not taken.lost
    lost.release()  # changes nothing
    assert leases(tmp_path, clock).take("cell") is None
    assert two.attempts("cell") == 2


@pytest.mark.usefixtures("elsewhere")
def test_a_renewed_lease_is_kept_whatever_the_times_of_files(tmp_path, clock):
    one, two = leases(tmp_path, clock), leases(tmp_path, clock)
    lease = one.take("cell")
    for _ in range(5):
        clock.now += 0.9 * TIMES.expire
        lease.renew()
        (file,) = (tmp_path / "leases").iterdir()
        stamp = file.stat()
        os.utime(file, (0, 0))  # a clock that is far behind
        assert stamp.st_mtime > 0
        assert two.take("cell") is None
    assert not lease.lost


@pytest.mark.usefixtures("elsewhere")
def test_of_many_that_take_over_at_once_one_wins(tmp_path, clock):
    leases(tmp_path, clock).take("cell")
    others = [leases(tmp_path, clock) for _ in range(8)]
    assert [other.take("cell") for other in others] == [None] * 8
    clock.now += 2 * TIMES.expire
    barrier, found = threading.Barrier(8), []

    def take(other):
        barrier.wait()
        found.append(other.take("cell"))

    threads = [threading.Thread(target=take, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert sum(lease is not None for lease in found) == 1


def test_a_lease_that_could_not_be_renewed_for_too_long_is_lost(tmp_path, clock, monkeypatch):
    lease = leases(tmp_path, clock).take("cell")
    monkeypatch.setattr(lease, "_write", lambda: (_ for _ in ()).throw(OSError("the server is away")))
    lease.renew()
    assert not lease.lost
    clock.now += 1.1 * TIMES.expire
    lease.renew()
    assert lease.lost


def test_a_lease_whose_file_was_removed_is_lost(tmp_path, clock):
    lease = leases(tmp_path, clock).take("cell")
    (file,) = (tmp_path / "leases").iterdir()
    file.unlink()
    lease.renew()
    assert lease.lost
    lease.release()
    assert not file.exists()


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(tmp_path, clock):
    script = "import sys; from pathlib import Path; from edl_jax.study.compare.leases import Leases, LeaseTimes;"
    script += "import os; Leases(Path(sys.argv[1]), LeaseTimes()).take('cell'); os._exit(9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "leases")], check=False)
    found = leases(tmp_path, clock)
    assert found.held() == []
    assert found.take("cell") is not None
    assert found.attempts("cell") == 2
    assert len(found.held()) == 1


def test_what_is_known_of_processes():
    me = this_process()
    assert not is_dead(me)
    assert not is_dead({**me, "machine": "another boot", "pid": 2**22 + 1})
    assert not is_dead({})
    if me["machine"] is not None:  # Linux
        assert is_dead({**me, "pid": 2**22 + 1})
        assert is_dead({**me, "started": "1"})  # its number is another's by now


@pytest.mark.usefixtures("elsewhere")
def test_a_file_that_is_half_written_counts_as_a_change(tmp_path, clock):
    one, two = leases(tmp_path, clock), leases(tmp_path, clock)
    one.take("cell")
    (file,) = (tmp_path / "leases").iterdir()
    assert two.take("cell") is None
    clock.now += 0.9 * TIMES.expire
    file.write_text(json.dumps({"count": 7})[:5])
    assert two.take("cell") is None
    clock.now += 0.9 * TIMES.expire
    assert two.take("cell") is None
    clock.now += TIMES.expire
    assert two.take("cell") is not None


def test_the_thread_renews(tmp_path):
    lease = Leases(tmp_path, LeaseTimes(0.01, 10.0)).take("cell")
    (file,) = tmp_path.iterdir()

    def count():
        return json.loads(file.read_text() or '{"count": 0}')["count"]

    until = time.monotonic() + 5.0
    while count() < 3:  # not read again afterwards: the thread may just be writing, and then the file is empty
        assert time.monotonic() < until
        time.sleep(0.01)
    lease.release()
    assert json.loads(file.read_text())["released"]


def test_times_that_cannot_work_are_refused():
    LeaseTimes(5.0, 60.0).check()
    with pytest.raises(UserError, match="--lease-seconds is 6, expected at least 15"):
        LeaseTimes(5.0, 6.0).check()
