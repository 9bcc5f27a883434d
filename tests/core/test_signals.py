"""Signals and closed streams: what a command makes of them, without a run."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edl_jax.core.errors import UserError
from edl_jax.core.signals import Signals
from edl_jax.core.stopping import Stop, Stopped

ROOT = Path(__file__).parents[2]
# Each case says `ready` and is sent a signal. Nothing is imported that takes time.
SCRIPT = """
import gc, hashlib, signal, sys, threading, time
from pathlib import Path
from edl_jax.core import signals, streams

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and under nohup
signals._GRACE_SECONDS = signals._AGAIN_SECONDS = 0.2
signals._LOOK_SECONDS = 0.02

class Cycle:
    def __init__(self):
        self.me = self
    def __del__(self):
        ready()
        time.sleep(30)

def ready():
    print("ready", flush=True)

def run(case, stop):
    if case == "a thread compiles":
        threading.Thread(target=time.sleep, args=(30,)).start()
        ready()
        time.sleep(30)
    elif case == "an import":
        Path("slow.py").write_text("import time\\nprint('ready', flush=True)\\ntry: time.sleep(30)\\nfinally: print(1)")
        sys.path.insert(0, ".")
        import slow
    elif case == "a library":
        ready()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    elif case == "a destructor":
        Cycle()
        gc.collect()
        time.sleep(30)
    elif case == "it cleans up":
        try:
            ready()
            time.sleep(30)
        finally:
            time.sleep(0.8)
            print("clean")
    elif case in ("a loop", "a loop that hangs up"):
        with stop.deferring():
            ready()
            while not stop.requested:
                time.sleep(0.01)
            time.sleep(0.8)
            stop.check("step 7 of 40")
    elif case == "a loop that hangs":
        with stop.deferring():
            ready()
            time.sleep(30)
            time.sleep(30)

streams.outlive_readers()
with signals.Signals(own_process=True) as given:
    given.also("USR1")
    given.stop.path = Path.cwd() / "a run"
    try:
        run(sys.argv[1], given.stop)
    except KeyboardInterrupt:
        print(given.stop.line(), file=sys.stderr, flush=True)
        sys.stdout.flush()
        given.leave()
"""
LINE = "stopped by {}: give the same command with --out 'a run' and --resume to go on\n"
LOOP = LINE.replace(":", " after step 7 of 40:")
# what goes on -> signals that are sent, exit code, standard output after `ready`, standard error
CASES = {
    "a thread compiles": (("SIGINT",), -signal.SIGINT, "", LINE.format("Ctrl-C")),
    "an import": (("SIGTERM",), 143, "", LINE.format("SIGTERM")),
    "a library": (("SIGTERM",), 143, "", LINE.format("SIGTERM")),
    "a destructor": (("SIGTERM",), 143, "", LINE.format("SIGTERM")),
    "it cleans up": (("SIGUSR1",), 128 + signal.SIGUSR1, "clean\n", LINE.format("SIGUSR1")),
    "a loop": (("SIGTERM", "SIGTERM"), 143, "", LOOP.format("SIGTERM")),  # together they count as one
    "a loop that hangs up": (("SIGHUP", "pause", "SIGHUP"), 129, "", LOOP.format("SIGHUP")),  # nor is that a hurry
    "a loop that hangs": (("SIGTERM", "pause", "SIGINT"), 130, "", LINE.format("SIGTERM")),
}
PIPES = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """A process for each case, at the same time."""
    folder = tmp_path_factory.mktemp("signals")
    line = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    started = {case: subprocess.Popen([*line, case], cwd=folder, env=ENVIRONMENT, **PIPES) for case in CASES}
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("case", CASES)
def test_a_process_that_is_told_to_stop_says_so_in_a_line(processes, case):
    sent, code, out, err = CASES[case]
    process = processes[case]
    assert process.stdout.readline() == "ready\n"
    for name in sent:
        if name == "pause":
            time.sleep(0.7)
        else:
            process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=20) == (out, err)
    assert process.returncode == code


def test_handlers_are_put_back_and_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        installed = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
        with Signals(own_process=False) as given:
            given.also("usr1")
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(Stopped, match="stopped by SIGUSR1"):
                signal.raise_signal(signal.SIGUSR1)
            assert given.stop.signal == signal.SIGUSR1
        assert {number: signal.getsignal(number) for number in installed} == installed
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["KILL", "sigstop", "FOO", "", "SIG_IGN", "10"])
def test_signals_that_cannot_be_caught_are_refused(name):
    with pytest.raises(UserError, match=f"requeue_signal is {name}, expected a signal that can be caught"):
        Signals(own_process=False).also(name)


def test_in_a_thread_nothing_is_installed():
    def run():
        with Signals(own_process=True) as given:
            given.also("USR1")
            found.append(signal.getsignal(signal.SIGINT))

    found, before = [], signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before]


def test_a_request_that_a_loop_does_not_come_to_is_raised_after_it():
    def loop():
        with stop.deferring():
            stop.check("step 3")
            stop.request()
            done.append(stop.requested)

    stop, done = Stop(), []
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 3"):
        loop()
    assert done == [True]


def test_a_program_goes_on_whose_output_no_one_reads(tmp_path):
    (tmp_path / "script.py").write_text("""
import os, sys
from edl_jax.core import streams
streams.outlive_readers()
sys.stdin and sys.stdin.read()  # until the pipes are closed
print("x" * 10_000, flush=True)
print("y" * 10_000, file=sys.stderr)
os.write(1, b"z")
with open("file", "w") as file:
    file.write(f"{file.fileno()}")
print("end")
""")
    line = [sys.executable, "-W", "ignore", "script.py"]
    process = subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, **{**PIPES, "stdin": subprocess.PIPE})
    for pipe in (process.stdout, process.stderr, process.stdin):
        pipe.close()
    assert process.wait(timeout=20) == 0
    assert (tmp_path / "file").read_text().isdecimal()
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line]
    subprocess.run(closed, cwd=tmp_path, env=ENVIRONMENT, check=True)
    assert int((tmp_path / "file").read_text()) > 2  # where no library prints
