import pytest

from edl_jax.core.stopping import Stop
from edl_jax.training import progress
from edl_jax.training.progress import Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.2 s"),
        (2.54, "2.5 s"),
        (45, "45 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (3600, "60.0 min"),
        (7200, "2.0 h"),
        (86_400, "24.0 h"),
        (8.5 * 86_400, "8.5 days"),
    ],
)
def test_durations_are_in_human_units(seconds, text):
    assert format_duration(seconds) == text


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def run_steps(bar, clock, seconds, steps, begun=0):
    synced = []
    bar.start_epoch(begun)
    for done in range(begun + 1, steps + 1):
        clock.now += seconds
        if bar.due(done):
            synced.append(done)
            bar.report(done)
    return synced


def test_slow_steps_get_their_estimate_after_the_first(clock, capsys):
    bar = Progress("resnet18", steps=390, epochs=200, done_steps=0, eval_share=0.0, stop=Stop())
    run_steps(bar, clock, 10.0, 1)
    err = capsys.readouterr().err
    assert err == "resnet18: 200 epochs take about 9.0 days (10,000 ms a step)\n"
    run_steps(bar, clock, 10.0, 5)
    assert capsys.readouterr().err == ""  # printed once


def test_fast_steps_are_timed_without_the_first_and_then_rarely_waited_for(clock, capsys):
    bar = Progress("mlp", steps=400, epochs=4, done_steps=600, eval_share=0.3, stop=Stop())
    clock.now += 1.0  # the first step is slow
    synced = run_steps(bar, clock, 0.01, 400, begun=200)
    assert "2.5 epochs take about 11 s (10 ms a step)" in capsys.readouterr().err  # 2.5 * 400 * 0.01 * 1.1
    assert len(synced) < 20


def test_without_steps_to_watch_the_first_epoch_gives_the_estimate(clock, capsys):
    bar = Progress("resnet18", steps=390, epochs=200, done_steps=0, eval_share=0.2, stop=Stop())
    bar.start_epoch()
    bar.finish_epoch(3.0, {"test": 0.5})
    bar.finish_epoch(3.0, {"test": 0.6})
    assert capsys.readouterr().err == "resnet18: 200 epochs take about 10.0 min (3 s an epoch)\n"
