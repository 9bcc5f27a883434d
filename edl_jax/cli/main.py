"""The command line: `python run.py <command> [flags]`, or `edl-jax <command> [flags]`.

Whatever goes wrong is one line on stderr and an exit code other than 0. `COMMANDS` names the module of each
command, which is imported when it is asked for.
"""

import contextlib
import errno
import importlib
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Sequence
from types import ModuleType

from edl_jax import __version__
from edl_jax.backend import cache
from edl_jax.core import failures, home, output, status, streams
from edl_jax.core.errors import UserError, choose, command, one_line
from edl_jax.core.signals import Signals

# name -> (module, what it does)
COMMANDS = {
    "pretrain": ("pretrain", "evolve a loss on synthetic pairs (stage 1)"),
    "design-mixture": ("design_mixture", "the mixture of synthetic pairs whose optimum is a given loss"),
    "ablate": ("ablate", "vary one factor of pretraining at a time"),
    "search": ("search", "search for a loss by training networks with its candidates"),
    "eliminate": ("eliminate", "eliminate the losses of searches on larger networks, stage by stage"),
    "surrogate-study": ("surrogate_study", "how far small networks rank losses as larger ones do"),
    "correlate": ("correlate", "which pretraining number predicts the accuracy of networks"),
    "transfer": ("transfer", "how far synthetic predictions resemble those of networks while they train"),
    "flatness": ("flatness", "how flat the minima are that losses lead to"),
    "losses": ("losses", "list the losses, describe one, compare them"),
    "downstream": ("downstream", "train an image classifier with a loss (stage 2)"),
    "evaluate": ("evaluate", "metrics and figures of a trained classifier, on its data set or another"),
    "predict": ("predict", "classes of images by a trained classifier"),
    "export": ("export", "a trained classifier as files that JAX alone can load"),
    "compare": ("compare", "compare losses on a grid of settings and seeds, with statistics"),
    "summarize": ("summarize", "mean and standard deviation over finished downstream runs"),
    "report": ("report", "one page of what commands have left in their directories"),
    "data": ("data", "prepare: write a TFDS directory for a data set"),
}
# Those that make a run: they are given the signals, and stop when it suits the run.
RUNS = (
    "pretrain",
    "ablate",
    "search",
    "eliminate",
    "surrogate-study",
    "correlate",
    "transfer",
    "flatness",
    "downstream",
    "compare",
)

# A message, not a traceback: the disk is full or over quota, or the file is read-only or not ours.
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ACCESS_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = os.strerror(errno.ENOSPC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 an error, 3 diverged training, 128 + N: signal N."""
    if arguments is None:
        streams.outlive_readers()
    output.write_any_text()
    with Signals(own_process=arguments is None) as signals:
        return _main(list(sys.argv[1:] if arguments is None else arguments), signals)


def _main(args: list[str], signals: Signals) -> int:
    debug, cached = "--debug" in args, "--no-compilation-cache" not in args
    args = [arg for arg in args if arg not in ("--debug", "--no-compilation-cache")]
    try:
        with output.short_warnings(debug):
            return _dispatch(args, cached, signals)
    except KeyboardInterrupt:
        return _stopped(signals, debug)
    except Exception as error:
        if signals.stop.raised:  # and became another exception in a library
            return _stopped(signals, debug)
        if isinstance(error, UserError):
            code = _fail(str(error), error.exit_code, debug)
            if error.detail:
                print(textwrap.indent(error.detail, "  "), file=sys.stderr)
            return code
        return _fail(_disk_message(error) or failures.describe(error, _resume(args)), 2, debug)


def _dispatch(args: list[str], cached: bool, signals: Signals) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage(), end="")
        return 0 if args else 2
    if args[0] == "--version":
        print(__version__)
        return 0
    name, rest = choose("command", args[0], COMMANDS), args[1:]
    signals.stop.hint = "give the same command again" if name in RUNS else ""
    status.say(f"{name}: starting")
    home.ensure()
    try:
        _import_jax()
        if cached and not {"-h", "--help"} & set(rest):
            cache.enable()
        module = _import_command(name, rest)
        try:
            module.main(rest, *([signals] if name in RUNS else []))
        except UserError as error:
            from edl_jax.cli import flags

            error.args = (flags.name_flags(str(error), module.Flags),)
            raise
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "edl_jax"):
            raise
        raise UserError(
            f"{command(name)} needs the package {package}, which is not installed: pip install 'edl-jax[train]'"
        ) from error
    except (RuntimeError, AssertionError):  # what JAX raises without a device, wherever the first one is asked for
        from edl_jax.core import jax_settings

        jax_settings.require_device()
        raise
    return 0


def _import_jax() -> None:
    """Import JAX, which reads and checks its settings then.

    Raises:
      UserError: it refuses one.
    """
    try:
        importlib.import_module("jax")
    except ValueError as error:
        raise UserError(f"JAX does not start ({error}): correct or unset the variable JAX_... that it names") from error


def _import_command(name: str, args: list[str]) -> ModuleType:
    """Import the module of a command."""
    module = f"edl_jax.cli.{COMMANDS[name][0]}"
    try:
        return importlib.import_module(module)
    except UserError:
        if not {"-h", "--help"} & set(args):
            raise
        import jax  # evosax needs a device to be imported, but help does not: any will do

        jax.config.update("jax_platforms", "cpu")
        return importlib.import_module(module)


def _usage() -> str:
    shown = "\n".join(f"  {name:<16} {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"usage: {command('<command>')} [flags]        {command('<command>')} --help lists the flags\n\n"
        f"commands:\n{shown}\n\n"
        "flags of every command:\n"
        "  --debug                 show tracebacks\n"
        "  --no-compilation-cache  keep no compiled programs in the user's cache directory\n"
        "  --version               print the version\n"
    )


def _disk_message(error: BaseException) -> str | None:
    """Return a line about the disk when that is what failed, in us or in a library below."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _ACCESS_ERRORS and seen.filename:
            reason = os.strerror(seen.errno)
            return f"cannot use {seen.filename}: {reason}; change its permissions or choose another path"
        full = isinstance(seen, OSError) and seen.errno in _FULL_ERRORS
        if full or _FULL in str(seen):
            reason = os.strerror(seen.errno) if isinstance(seen, OSError) and seen.errno else _FULL
            return f"cannot write: {reason}; make room, then give the same command with --out and --resume to go on"
        seen = seen.__cause__ or seen.__context__
    return None


def _stopped(signals: Signals, debug: bool) -> int:
    """Say how to go on, and end the process or return the exit code."""
    if debug:
        traceback.print_exc()
    print(signals.stop.line(), file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    signals.leave()
    return 128 + (signals.stop.signal or signal.SIGINT)


def _resume(args: Sequence[str]) -> str:
    """Return how to go on with a run, where the command makes one."""
    return "; give the same command with --out and --resume to go on" if args and args[0] in RUNS else ""


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {one_line(message)}", file=sys.stderr)
    return code
