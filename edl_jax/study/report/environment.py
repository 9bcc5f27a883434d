"""Where a run was made, and what one types to make it again."""

import shlex
from collections.abc import Mapping
from typing import Any

from edl_jax.study.report.page import Block, Section, Text, facts
from edl_jax.study.report.repeat import repeat
from edl_jax.study.report.sources import Source


def section(source: Source) -> Section:
    """Return the section on the environment and the commands of a directory."""
    blocks: list[Block] = []
    again = repeat(source.command, source.config)
    if again is not None:
        blocks += [Text("This makes it again:"), Text(again, "code")]
    typed = source.environment.get("command")
    if isinstance(typed, list) and typed:
        blocks += [Text("As it was typed last:"), Text(_shell(typed), "code")]
    known = _environment(source.environment)
    blocks.append(facts("Environment", known) if known else Text("environment.json is not there, or cannot be read."))
    return Section("Environment and commands", blocks)


def _shell(words: list[Any]) -> str:
    program, *rest = map(str, words)
    start = ["python", program] if program.endswith(".py") else [program]
    return shlex.join([*start, *rest])


def _environment(found: Mapping[str, Any]) -> dict[str, str]:
    """Return name -> value of what environment.json says."""
    told: dict[str, str] = {}
    device = found.get("device")
    if isinstance(device, Mapping):
        told["device"] = f"{device.get('count')} x {device.get('kind')} ({device.get('platform')})"
    for key, title in (("cpu_count", "CPU cores"), ("git_revision", "git revision"), ("started", "started")):
        if found.get(key) is not None:
            told[title] = str(found[key])
    if isinstance(found.get("wall_seconds"), (int, float)):
        told["wall seconds"] = f"{found['wall_seconds']:g}"
    for key in ("versions", "jax_settings"):
        if isinstance(found.get(key), Mapping):
            told |= {str(name): str(value) for name, value in found[key].items()}
    return told
