"""kill -9 at random moments of every command, those of importing, compiling and drawing included."""

import signal

import pytest
from crash_cases import COMMANDS, finish, kill_after, moments, numbers

KILLS = 5  # of each command


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(KILLS))
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_resumes_to_the_uninterrupted_numbers(name, moment, whole, tmp_path):
    expected, seconds, _ = whole(name)
    after = moments(name, KILLS)[moment] * seconds
    out = tmp_path / "run"
    killed = kill_after(name, out, after)
    assert killed.code in (-signal.SIGKILL, 0), killed.err  # 0: the machine was faster than when it was timed
    if moment % 2:  # and once more, in the resumed one
        kill_after(name, out, after)
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    ended = finish(name, out)
    told = f"{name}, killed after {after:.2f} of {seconds:.2f} s, which left {left}:\n{ended.err}"
    assert ended.code == 0, told
    assert numbers(out) == expected, told
