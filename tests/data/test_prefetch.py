"""Work done ahead: in order, bounded, errors in their turn, no thread left behind."""

import threading
import time

import pytest

from edl_jax.data.prefetch import prefetch


def test_results_come_in_order_whatever_time_each_takes():
    def slow_first(i):
        time.sleep(0.02 if i == 0 else 0.0)
        return i * i

    assert list(prefetch(slow_first, 20, ahead=4)) == [i * i for i in range(20)]
    assert list(prefetch(slow_first, 0, ahead=4)) == []


def test_no_more_is_done_ahead_than_asked_for():
    called = []
    results = prefetch(lambda i: called.append(i) or i, 100, ahead=3)
    assert next(results) == 0
    time.sleep(0.1)
    assert len(called) <= 8  # the first, three that wait, and one in each thread
    results.close()


def test_an_error_is_raised_in_its_turn_and_no_thread_stays():
    before = threading.active_count()

    def fail(i):
        if i == 3:
            raise ValueError("the fourth")
        return i

    results = prefetch(fail, 10, ahead=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    results = prefetch(fail, 10, ahead=2)
    next(results)
    results.close()  # left early
    deadline = time.time() + 5
    while threading.active_count() > before and time.time() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # those of earlier tests may end meanwhile
