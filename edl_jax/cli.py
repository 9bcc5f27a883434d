"""The command line: `python run.py <command> [flags]`, or `edl-jax <command> [flags]`.

Each command is a thin shell over a function of the same name: flags override a preset (`--config NAME`), the
preset overrides the defaults. Whatever a person can get wrong is one line on stderr and exit code 2.
"""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import io
import itertools
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from edl_jax import __version__
from edl_jax.config import load_preset
from edl_jax.errors import UserError, unknown

_USAGE = """usage: run.py <command> [flags]        run.py <command> --help lists the flags

commands:
  pretrain         evolve a loss on synthetic pairs (stage 1)
  design-mixture   the mixture of synthetic pairs whose optimum is a given loss
  ablate           vary one factor of pretraining at a time
  losses           list the losses, describe one, compare them
  downstream       train an image classifier with a loss (stage 2)
  summarize        mean and standard deviation over finished downstream runs
  data prepare     write a TFDS directory for a data set

flags of every command: --debug shows tracebacks, --version prints the version
"""

# A message, not a traceback: the disk is full or over quota, or the file is read-only or not ours.
_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ACCESS_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = os.strerror(errno.ENOSPC)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 interrupted, 2 bad input, 3 diverged training."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        return _dispatch(args)
    except UserError as error:
        return _fail(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        return _fail("interrupted: give the same command with --out and --resume to go on", 1, debug)
    except BrokenPipeError:  # the reader of `run.py losses | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message = _disk_message(error)
        if message is None:
            raise
        return _fail(message, 2, debug)


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
        profile: bool = False
        """Print achieved rates beside the machine's measured ceilings."""

    default = Pretrain(load_preset("pretrain", _preset(args), pretrain.PretrainConfig()))
    command = _parse(Pretrain, default, args, "pretrain")
    result = pretrain.run(
        command.settings,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        profile=command.profile,
    )
    if command.settings.runs > 1:
        for name in ("ranking_accuracy", "fitness_ratio"):
            mean, std = result["mean"][name], result["std"][name]
            print(f"{command.settings.runs} runs: {name.replace('_', ' ')} {mean:.4f} ± {std:.4f}; the best one:")
    print(
        f"held-out ranking accuracy {result['ranking_accuracy']:.4f}   fitness {result['fitness']:.4f}, "
        f"{result['fitness_ratio']:.4f} of the optimum's"
    )
    fits = ", ".join(f"{name} {value:.4f}" for name, value in result["r_squared"].items())
    print(f"R^2 of the loss with: {fits}")
    print(f"loss artifact: {_short(result['artifact'])}")


def _design_mixture(args: list[str]) -> None:
    from edl_jax import design_mixture

    @dataclasses.dataclass(frozen=True)
    class DesignMixture:
        """Write a preset for pretrain whose mixture has a given loss as its optimum."""

        settings: Annotated[design_mixture.DesignConfig, tyro.conf.arg(name="")]
        out: Path | None = None
        """YAML file to write (default: runs/designed-TARGET.yaml)."""
        overwrite: bool = False
        """Replace the file in --out."""

    default = DesignMixture(design_mixture.DesignConfig())
    command = _parse(DesignMixture, default, args, "design-mixture")
    result = design_mixture.run(command.settings, out=command.out, overwrite=command.overwrite)
    print(f"R^2 of {command.settings.target} with the optimum of this mixture: {result['r_squared']:.5f}")
    print(f"preset: {_short(result['preset'])}   figure: {_short(result['figure'])}")
    print(f"evolve it: python run.py pretrain --config {_short(result['preset'])}")


def _ablate(args: list[str]) -> None:
    from edl_jax.study import ablate

    @dataclasses.dataclass(frozen=True)
    class Ablate:
        """Vary one factor of pretraining at a time, with tests and figures in OUT/report.md and OUT/figures."""

        settings: Annotated[ablate.AblateConfig, tyro.conf.arg(name="")]
        config: str = "default"
        """Preset (a name from configs/ablate, or the path of a YAML file)."""
        out: Path | None = None
        """Directory of the study (default: runs/ablate-TIME)."""
        resume: bool = False
        """Keep the finished cells in --out and run the others."""
        overwrite: bool = False
        """Replace the study in --out."""
        retime: bool = False
        """Measure every cell's time a generation again, between runs of the base (for a machine that was shared)."""

    default = Ablate(load_preset("ablate", _preset(args), ablate.AblateConfig()))
    command = _parse(Ablate, default, args, "ablate")
    result = ablate.run(
        command.settings,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        retime=command.retime,
    )
    print(f"report: {_short(result['report'])}")


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


def _losses(args: list[str]) -> None:
    from edl_jax import losses

    @dataclasses.dataclass(frozen=True)
    class Losses:
        """List the losses, or describe one: formula, source, and properties computed from the loss itself."""

        name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
        """Loss to describe: a name, or the path of an artifact (default: list all)."""
        parameters: tuple[str, ...] = ()
        """Hyper-parameters of that loss, such as gamma=2."""
        table: bool = False
        """Compute the properties of every loss, or of NAME, as a Markdown table."""
        plot: Path | None = None
        """PNG file to draw shape and gradient of NAME to, beside cross-entropy."""
        overwrite: bool = False
        """Replace the file in --plot."""

    command = _parse(Losses, None, args, "losses")
    print(
        losses.run(
            command.name,
            parameters=command.parameters,
            table=command.table,
            plot=command.plot,
            overwrite=command.overwrite,
        )
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
    if not args:
        raise UserError("no data command given, expected run.py data prepare NAME")
    if args[0] != "prepare":
        raise unknown("data command", args[0], ["prepare"])

    @dataclasses.dataclass(frozen=True)
    class Prepare:
        """Write a TFDS directory for a data set, without TensorFlow."""

        name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
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
    "ablate": _ablate,
    "data": _data,
    "design-mixture": _design_mixture,
    "downstream": _downstream,
    "losses": _losses,
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
    keywords: dict[str, Any] = {"prog": f"run.py {command}"}
    if default is not None:
        keywords["default"] = default
    if {"-h", "--help"} & set(args):
        return tyro.cli(cls, args=args, **keywords)
    hint = f"see run.py {command} --help"
    box = io.StringIO()
    try:
        with _wide_terminal(), contextlib.redirect_stderr(box):
            parsed, left = tyro.cli(cls, args=args, return_unknown_args=True, **keywords)
    except SystemExit:
        raise UserError(f"{_one_line(box.getvalue())}; {hint}") from None
    for arg in left:
        if arg.startswith("-"):
            raise UserError(f"{_unknown_flag(arg, cls, keywords)} {hint}")
    if left:
        raise UserError(f"unexpected argument {left[0]!r}; {hint}")
    return parsed


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep tyro from wrapping lines, so that no word of a message is cut."""
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _unknown_flag(arg: str, cls: type, keywords: dict[str, Any]) -> str:
    """Return `unknown flag --x: did you mean --y?` for a flag that `cls` lacks."""
    flag = arg.split("=")[0]
    text = io.StringIO()
    with contextlib.suppress(SystemExit), _wide_terminal(), contextlib.redirect_stdout(text):
        tyro.cli(cls, args=["--help"], **keywords)
    known = {name.lstrip("-"): name for name in re.findall(r"--[a-z][a-z.-]*[a-z]", text.getvalue())}
    near = difflib.get_close_matches(flag.lstrip("-").replace("_", "-").lower(), known, n=3, cutoff=0.6)
    return f"unknown flag {flag}" + (f": did you mean {' or '.join(known[name] for name in near)}?" if near else ";")


def _one_line(box: str) -> str:
    """Return the message inside a box of tyro (drawn in Unicode or ASCII), without frame and help text."""
    lines = [line.strip("│| ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]]
    body = itertools.dropwhile(_is_rule, lines)
    message = " ".join(" ".join(itertools.takewhile(lambda line: not _is_rule(line), body)).split())
    if found := re.fullmatch(r"Error parsing (\S+): .*?(\[.*\]|'.*')", message):
        flag, value = found.groups()
        usage = next((line for line in lines if line.startswith(f"{flag} ")), flag)
        return f"{flag} is {value}, expected {usage.removeprefix(flag).strip() or 'another value'}"
    if found := re.fullmatch(r"Missing value for argument '(.*)'\. .*", message):
        return f"{found[1]} needs a value"
    return re.sub(r"^Missing from [^:]*: (\w+) (.*?)\.? \(required\)$", r"missing \1: \2", message) or "bad flags"


def _is_rule(line: str) -> bool:
    """Return whether a line of a box is empty or drawn."""
    return not line.strip("─-╰╯+")


def _disk_message(error: BaseException) -> str | None:
    """Return a line about the disk when that is what failed, in us or in a library below."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _ACCESS_ERRORS:
            reason = os.strerror(seen.errno)
            return f"cannot use {seen.filename}: {reason}; change its permissions or choose another path"
        full = isinstance(seen, OSError) and seen.errno in _FULL_ERRORS
        if full or _FULL in str(seen):
            reason = os.strerror(seen.errno) if isinstance(seen, OSError) and seen.errno else _FULL
            return f"cannot write: {reason}; make room, then give the same command with --out and --resume to go on"
        seen = seen.__cause__ or seen.__context__
    return None


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _short(path: str) -> str:
    """Return a path relative to the working directory where that is shorter."""
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
