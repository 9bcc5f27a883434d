"""The command line: `python run.py <command> [flags]`, or `edl-jax <command> [flags]`.

Each command is a thin shell over a function of the same name: flags override a preset (`--config NAME`), the
preset overrides the defaults. Whatever a person can get wrong is one line on stderr and exit code 2.
"""

import argparse
import contextlib
import dataclasses
import errno
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from edl_jax import __version__
from edl_jax.config import load_preset
from edl_jax.errors import UserError, unknown

_USAGE = """usage: run.py <command> [flags]        run.py <command> --help lists the flags

commands:
  pretrain       evolve a loss on synthetic pairs (stage 1)
  downstream     train an image classifier with a loss (stage 2)
  summarize      mean and standard deviation over finished downstream runs
  data prepare   write a TFDS directory for a data set

flags of every command: --debug shows tracebacks, --version prints the version
"""

# A message, not a traceback: the disk is full, over quota, read-only, or not ours.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
_DISK_FULL = "No space left on device"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 interrupted, 2 bad input, 3 diverged training."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        return _dispatch(args)
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted: give the same command with --resume to go on", 1)
    except Exception as error:
        message = _disk_message(error)
        if debug or message is None:
            raise
        return _fail(message, 2)


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_USAGE, end="")
        return 0 if args else 2
    if args[0] == "--version":
        print(__version__)
        return 0
    name, rest = args[0], args[1:]
    if name not in _COMMANDS:
        raise unknown("command", name, _COMMANDS)
    _COMMANDS[name](rest)
    return 0


def _pretrain(args: list[str]) -> None:
    from edl_jax import pretrain

    @dataclasses.dataclass(frozen=True)
    class Pretrain:
        """Evolve a loss on synthetic pairs, calibrate it and write it to OUT/loss.safetensors."""

        settings: Annotated[pretrain.PretrainConfig, tyro.conf.arg(name="")]
        config: str = "default"
        """Preset (a name from configs/pretrain, or the path of a YAML file)."""
        out: Path | None = None
        """Run directory (default: runs/pretrain-TIME)."""
        resume: bool = False
        """Continue the run in --out from its newest checkpoint."""
        overwrite: bool = False
        """Replace the run in --out."""

    default = Pretrain(load_preset("pretrain", _preset(args), pretrain.PretrainConfig()))
    command = _parse(Pretrain, default, args, "pretrain")
    result = pretrain.run(command.settings, out=command.out, resume=command.resume, overwrite=command.overwrite)
    print(f"held-out ranking accuracy {result['ranking_accuracy']:.4f}   fitness {result['fitness']:.4f}")
    fits = ", ".join(f"{name} {value:.4f}" for name, value in result["r_squared"].items())
    print(f"R^2 of the loss with: {fits}")
    print(f"loss artifact: {_short(result['artifact'])}")


def _downstream(args: list[str]) -> None:
    from edl_jax import downstream

    @dataclasses.dataclass(frozen=True)
    class Downstream:
        """Train an image classifier with a loss and write its metrics to OUT."""

        settings: Annotated[downstream.DownstreamConfig, tyro.conf.arg(name="")]
        config: str = "default"
        """Preset (a name from configs/downstream, or the path of a YAML file)."""
        data_dir: Path | None = None
        """TFDS directory (default: TFDS's own)."""
        cache_dir: Path | None = None
        """Where decoded images are kept (default: the user's cache folder)."""
        out: Path | None = None
        """Run directory (default: runs/downstream-TIME)."""
        resume: bool = False
        """Continue the run in --out from its newest checkpoint."""
        overwrite: bool = False
        """Replace the run in --out."""

    default = Downstream(load_preset("downstream", _preset(args), downstream.DownstreamConfig()))
    command = _parse(Downstream, default, args, "downstream")
    result = downstream.run(
        command.settings,
        data_dir=command.data_dir,
        cache_dir=command.cache_dir,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
    )
    print(
        f"{result['loss']} on {command.settings.dataset}: test accuracy {result['test_accuracy']:.4f}   "
        f"train accuracy {result['train_accuracy']:.4f}   NLL {result['test_nll']:.4f}   ECE {result['test_ece']:.4f}"
    )


def _summarize(args: list[str]) -> None:
    from edl_jax.study import summary

    @dataclasses.dataclass(frozen=True)
    class Summarize:
        """Print mean and standard deviation over finished downstream runs that differ only in their seed."""

        runs: tyro.conf.Positional[tuple[Path, ...]]
        """Run directories."""

    command = _parse(Summarize, None, args, "summarize")
    print(summary.table(summary.read(command.runs)))


def _data(args: list[str]) -> None:
    if args and args[0] in ("-h", "--help"):
        print("usage: run.py data prepare NAME [--archive PATH] [--data-dir DIR]")
        return
    if not args or args[0] != "prepare":
        raise unknown("data command", args[0] if args else "", ["prepare"])

    @dataclasses.dataclass(frozen=True)
    class Prepare:
        """Write a TFDS directory for a data set, without TensorFlow."""

        name: tyro.conf.Positional[str]
        """cifar10, cifar100, fashion_mnist or mnist."""
        archive: Path | None = None
        """Published archive on disk (default: download it); for the MNIST sets the folder of its four files."""
        data_dir: Path | None = None
        """TFDS directory (default: TFDS's own)."""

    from edl_jax.data.prepare import prepare

    command = _parse(Prepare, None, args[1:], "data prepare")
    path = prepare(command.name, archive=command.archive, data_dir=command.data_dir)
    print(f"{command.name} is ready in {path}")


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "data": _data,
    "downstream": _downstream,
    "pretrain": _pretrain,
    "summarize": _summarize,
}


def _preset(args: list[str]) -> str:
    """Return the value of --config, which decides the defaults that the other flags override."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", default="default")
    try:
        return parser.parse_known_args(args)[0].config
    except argparse.ArgumentError as error:
        raise UserError(f"--config: {error.message}") from error


def _parse(cls: type, default: Any, args: list[str], command: str) -> Any:
    """Parse flags into `cls`; what tyro reports as a box becomes one line."""
    keywords: dict[str, Any] = {"args": args, "prog": f"run.py {command}"}
    if default is not None:
        keywords["default"] = default
    box = io.StringIO()
    columns = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(args):
        os.environ["COLUMNS"] = "1000"  # unwrapped, so that no word of the message is cut
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(cls, **keywords)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(box.getvalue(), command)) from None
    finally:
        if columns is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = columns


def _one_line(box: str, command: str) -> str:
    """Return the message inside a box of tyro: frame, colours and help text taken away."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ").strip() for line in text.splitlines()]
    kept: list[str] = []
    for line in lines:
        if line.startswith(("For full helptext", "Argument helptext")):
            break
        if line and line[0] not in "╭╰─" and not line.startswith("(default"):
            kept.append(line.rstrip("."))
    return f"{'; '.join(kept) or 'bad flags'}; see run.py {command} --help"


def _disk_message(error: BaseException) -> str | None:
    """Return a line about the disk when that is what failed, in us or in a library below."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _DISK_ERRORS:
            where = f" at {seen.filename}" if seen.filename else ""
            return f"cannot write{where}: {os.strerror(seen.errno)}; make room or choose another --out, then --resume"
        if _DISK_FULL in str(seen):
            return f"cannot write: {_DISK_FULL}; make room or choose another --out, then --resume"
        seen = seen.__cause__ or seen.__context__
    return None


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _short(path: str) -> str:
    """Return a path relative to the working directory where that is shorter."""
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
