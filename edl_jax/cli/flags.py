"""Flags to config: what tyro parses, and one line for what it does not."""

import argparse
import contextlib
import dataclasses
import difflib
import io
import itertools
import os
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

from edl_jax.core.config import load_preset, override, preset_names
from edl_jax.core.errors import UserError, command, local_path
from edl_jax.core.files import read_json
from edl_jax.core.signals import Signals


def preset_flag(name: str) -> Any:
    """Return what tyro needs to know of the flag --config of a command: its help, with the presets that there are."""
    presets = ", ".join(preset_names(name))
    return tyro.conf.arg(help=f"Preset: {presets}, or the path of a YAML file.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """Flags of the commands that train many networks in one directory; their `settings` are a field of their own."""

    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    out: Path | None = None
    """Directory of the study (default: runs/COMMAND-TIME)."""
    resume: bool = False
    """Keep what is done in --out and do the rest; settings that are not given are those of the study."""
    overwrite: bool = False
    """Replace the study in --out."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the study as SIGTERM does, such as USR1 of SLURM's --signal=USR1@120."""

    def options(self, signals: Signals) -> dict[str, Any]:
        """Return what `run` of a study takes beside its config."""
        names = ("data_dir", "cache_dir", "out", "resume", "overwrite", "figure_format")
        return {name: getattr(self, name) for name in names} | {"stop": signals.also(self.requeue_signal)}


def load(
    record: type,
    config: type,
    args: list[str],
    name: str,
    adapt: Callable[[Any, dict[str, str]], Any] = lambda preset, _: preset,
) -> Any:
    """Parse the flags of a command whose config has presets: flags override the preset, that the defaults.

    With --resume, the settings of the run in --out stand in place of the defaults: what is not typed again is as it
    was, whatever the defaults of today are.

    Args:
      record: frozen dataclass of the command's flags, with fields `settings` and `config`.
      config: frozen dataclass of `settings`.
      args: what was typed after the command.
      name: the command.
      adapt: (preset, field -> text of the flags that were typed) -> the preset that suits them.
    """
    typed = _typed(args)
    stored = _stored(typed, name, config)
    if stored is None or "config" in typed:
        stored = load_preset(name, _preset(args), stored or config())
    return parse(record, record(settings=adapt(stored, typed)), args, name)


def load_grid(record: type, config: type, training: type, args: list[str]) -> Any:
    """Parse the flags of `compare`, whose presets are those of `downstream`: they settle how a cell is trained.

    With --resume, --join or --report-only, the settings of the grid in --out stand in place of the defaults.

    Args:
      record: frozen dataclass of the command's flags, with fields `settings` and `config`.
      config: frozen dataclass of `settings`, with a field `training`.
      training: frozen dataclass of that one.
      args: what was typed after the command.
    """
    typed = _typed(args)
    if {"join", "report_only"} & typed.keys():
        typed["resume"] = ""
    default = _stored(typed, "compare", config)
    if default is None or "config" in typed:
        preset = _preset(args, record.config)  # type: ignore[attr-defined]
        chosen = load_preset("downstream", preset, training() if default is None else default.training)
        chosen = chosen.beside(typed)
        # A new grid takes models and data sets from the preset.
        default = config(training=chosen) if default is None else dataclasses.replace(default, training=chosen)
    return parse(record, record(settings=default), args, "compare")


def parse(record: type, default: Any, args: list[str], name: str) -> Any:
    """Parse the flags of the command `name` into `record`; what tyro reports as a box becomes one line."""
    keywords: dict[str, Any] = {"prog": command(name)}
    if default is not None:
        keywords["default"] = default
    if {"-h", "--help"} & set(args):
        return tyro.cli(record, args=args, **keywords)
    hint = f"see {command(name)} --help"
    box = io.StringIO()
    try:
        with _wide_terminal(), contextlib.redirect_stderr(box):
            parsed, left = tyro.cli(record, args=args, return_unknown_args=True, **keywords)
    except SystemExit:
        raise UserError(f"{_message(box.getvalue())}; {hint}") from None
    for arg in left:
        if arg.startswith("-"):
            raise UserError(f"{_unknown_flag(arg, record, keywords)} {hint}")
    if left:
        raise UserError(f"unexpected argument {left[0]!r}; {hint}")
    return parsed


def name_flags(message: str, record: type) -> str:
    """Return a message with the fields of a command's config named as its flags: `--batch-size is 0, expected ...`.

    A name of one word is a field only at the start, as in `epochs is 0`, or before its value, as in `below epochs (5)`.
    Names that were read from a file, choices, and names that flags of two configs share are left as they are.
    """
    message, choices, rest = message.partition("choose from")
    known = _flags(record)
    # A config within a config within another names its fields without the outermost: `mixture.spread` of `base`.
    known = {name.partition(".")[2]: flag for name, flag in known.items() if name.count(".") > 1} | known
    for name, flag in sorted(known.items(), key=lambda item: -len(item[0])):
        if any(other.endswith(f".{name}") and known[other] != flag for other in known):
            continue
        word = rf"(?<![\w./'\"-])(?<!: ){re.escape(name)}(?![\w.=/-])"
        if "_" not in name and "." not in name:
            word = rf"(?:^{re.escape(name)}(?= is (?!a\b|an\b|no\b|the\b))|{word}(?= \([-\d]))"
        message = re.sub(word, flag, message)
    return message + choices + rest


def show_path(path: str | Path) -> str:
    """Return a path relative to the working directory where that is shorter."""
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return str(path)


def _stored(typed: dict[str, str], name: str, config: type) -> Any:
    """Return the config of the run that is to be resumed, or None."""
    if not {"resume", "out"} <= typed.keys():
        return None
    # What cannot be read is named when the run is opened.
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        file = local_path(typed["out"]) / "config.json"
        record = read_json(file)
        if record["command"] == name:
            return override(config(), record["config"], source=str(file))
        if record["command"] == f"{name}-seeds":  # several runs, whose settings differ in the seed alone
            return override(config(), record["config"]["settings"], source=str(file))
    return None


def _preset(args: list[str], usual: str = "default") -> str:
    """Return the value of --config, which decides the defaults that the other flags override."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", default=usual)
    try:
        return parser.parse_known_args(args)[0].config
    except argparse.ArgumentError as error:
        raise UserError(f"--config: {error.message}") from error


def _typed(args: list[str]) -> dict[str, str]:
    """Return field -> first word of the value, for each flag among the arguments."""
    found = {}
    for arg, after in itertools.pairwise([*args, ""]):
        flag, equals, value = arg.partition("=")
        if flag.startswith("--"):
            found[flag.removeprefix("--").replace("-", "_")] = value if equals else after
    return found


def _flags(record: type, field_prefix: str = "", flag_prefix: str = "--") -> dict[str, str]:
    """Return field -> flag of a record and those in it; `name=""` puts an inner one's flags among the outer's."""
    found: dict[str, str] = {}
    for name, hint in typing.get_type_hints(record, include_extras=True).items():
        inner, *extras = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        if tyro.conf.Positional in extras:
            continue
        flag = flag_prefix + name.replace("_", "-")
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            flat = any(getattr(extra, "name", None) == "" for extra in extras)
            found |= _flags(
                inner, field_prefix if flat else f"{field_prefix}{name}.", flag_prefix if flat else f"{flag}."
            )
        else:
            found[field_prefix + name] = flag
    return found


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


def _unknown_flag(arg: str, record: type, keywords: dict[str, Any]) -> str:
    """Return `unknown flag --x: did you mean --y?` for a flag that `record` lacks."""
    flag = arg.split("=")[0]
    text = io.StringIO()
    with contextlib.suppress(SystemExit), _wide_terminal(), contextlib.redirect_stdout(text):
        tyro.cli(record, args=["--help"], **keywords)
    known = {name.lstrip("-"): name for name in re.findall(r"--[a-z][a-z.-]*[a-z]", text.getvalue())}
    near = difflib.get_close_matches(flag.lstrip("-").replace("_", "-").lower(), known, n=3, cutoff=0.6)
    return f"unknown flag {flag}" + (f": did you mean {' or '.join(known[name] for name in near)}?" if near else ";")


def _message(box: str) -> str:
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
    return re.sub(r"^Missing from [^:]*: (\S+) (.*?)\.? \(required\)$", r"missing \1: \2", message) or "bad flags"


def _is_rule(line: str) -> bool:
    """Return whether a line of a box is empty or drawn."""
    return not line.strip("─-╰╯+")
