"""Flags to config: what tyro parses, and one line for what it does not."""

import argparse
import contextlib
import difflib
import io
import itertools
import os
import re
from collections.abc import Iterator
from typing import Any

import tyro

from edl_jax.errors import UserError


def preset(args: list[str]) -> str:
    """Return the value of --config, which decides the defaults that the other flags override."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", default="default")
    try:
        return parser.parse_known_args(args)[0].config
    except argparse.ArgumentError as error:
        raise UserError(f"--config: {error.message}") from error


def parse(cls: type, default: Any, args: list[str], command: str) -> Any:
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
