"""Frozen dataclass configs: presets from YAML files, overrides, and their errors.

A config is a frozen dataclass whose fields are numbers, strings, booleans, tuples or further such
dataclasses. A preset is a YAML mapping that overrides some fields; unknown keys are refused with the
closest names.
"""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from edl_jax.core.errors import UserError, canonical, local_path, one_line, require, unknown

ConfigT = TypeVar("ConfigT")
# Metadata of a field that may grow while a run is interrupted, see `grown`.
GROWS = types.MappingProxyType({"grows": True})
# Metadata of a field that does not touch what is computed, and may be another one when a run is resumed.
CHANGES = types.MappingProxyType({"changes": True})


def presets_dir() -> Path:
    """Return the folder of presets: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def preset_names(command: str) -> list[str]:
    """Return the names of a command's presets."""
    return sorted(path.stem for path in (presets_dir() / command).glob("*.yaml"))


def load_preset(command: str, name: str, default: ConfigT) -> ConfigT:
    """Return `default` overridden by the preset `name` of `command`.

    `name` may also be the path of a YAML file.

    Raises:
      UserError: unknown preset, unreadable YAML, unknown key, or a value that the config refuses.
    """
    known = preset_names(command)
    is_file = name.endswith((".yaml", ".yml"))
    path = local_path(name) if is_file else presets_dir() / command / f"{canonical(name, known)}.yaml"
    if not path.is_file():
        raise unknown(f"{command} preset", name, known)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bytes, dates, huge integers
        raise UserError(f"{path} is not valid YAML: {one_line(str(error))}") from error
    return override(default, values, source=str(path))


def override(config: ConfigT, values: Mapping[str, Any], *, source: str | None = None, prefix: str = "") -> ConfigT:
    """Return `config` with `values` (a possibly nested mapping of field names) replaced.

    Args:
      config: frozen dataclass.
      values: what to replace.
      source: the file that `values` come from, which errors name.
      prefix: of the names of fields in errors.

    Raises:
      UserError: unknown key (closest names listed), wrong type, or a value that the config refuses.
    """
    named = source or "config"
    if not isinstance(values, Mapping):  # of a file that someone wrote
        raise UserError(f"{named} holds a {type(values).__name__}, expected a mapping of config keys to values")
    hints = typing.get_type_hints(type(config))
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise unknown(f"key in {named}:", prefix + str(key), [prefix + name for name in hints])
        current = getattr(config, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise UserError(f"{named}: {prefix}{key} is {value!r}, expected a mapping of its fields")
            changes[key] = override(current, value, source=source, prefix=f"{prefix}{key}.")
        else:
            changes[key] = _coerce(value, hints[key], f"{named}: {prefix}{key}")
    try:
        return dataclasses.replace(config, **changes)  # type: ignore[type-var]
    except UserError as error:
        raise UserError(str(error) if source is None else f"{source}: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as nested plain dictionaries and lists (what config.json holds)."""
    return _plain(config)


def _plain(value: Any) -> Any:
    """Return a value of a config as what JSON gives back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return one `key: old -> new` per leaf in which two plain configs differ."""
    found: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before} -> {after}")
    return found


def completed(stored: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Return a stored plain config with the fields that it lacks at their defaults, where they have any.

    A release that adds a field gives it the default under which earlier runs keep their meaning: such a run resumes.

    Args:
      stored: what config.json of an earlier release holds.
      config: config of the same class, whose fields are those of today.
    """
    found = dict(stored)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in stored:
            if dataclasses.is_dataclass(value) and isinstance(stored[field.name], Mapping):
                found[field.name] = completed(stored[field.name], value)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = _plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = _plain(field.default_factory())
    return found


def grown(stored: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Return a stored plain config with the fields that have grown, or may change, as they are today.

    A field with `GROWS` for its metadata may grow between a run and its resumption: a tuple at its end, a number up.
    One with `CHANGES` may have any value.

    Args:
      stored: what config.json of a run holds.
      config: config of the same class, whose fields are those of today.
    """
    found = dict(stored)
    for field in dataclasses.fields(config):
        if field.name not in stored:
            continue
        if field.metadata == CHANGES:
            found[field.name] = _plain(getattr(config, field.name))
        if field.metadata != GROWS:
            continue
        before, now = stored[field.name], _plain(getattr(config, field.name))
        if isinstance(now, list):
            grows = isinstance(before, list) and now[: len(before)] == before
        else:
            grows = isinstance(before, int) and before <= now
        if grows:
            found[field.name] = now
    return found


def _coerce(value: Any, annotation: Any, where: str) -> Any:
    """Return a YAML value as the annotated type, or raise `UserError`."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        annotation = next(arg for arg in args if arg is not type(None))
        return _coerce(value, annotation, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} is {value!r}, expected a list")
        return tuple(_coerce(item, args[0], where) for item in value)
    # YAML 1.1 reads 1e-3 as a string.
    if annotation is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return float(value)
    if not isinstance(value, annotation) or (annotation is int and isinstance(value, bool)):
        raise UserError(f"{where} is {value!r}, expected {annotation.__name__}")
    return value


def parse_parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """Return `name=number` or `name=number,number,...` pairs as a mapping; whole numbers are integers.

    Raises:
      UserError: a pair of another form.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            numbers = [int(item) if item.strip("+- ").isdecimal() else float(item) for item in text.split(",")]
        except ValueError:
            equals = ""
        require(bool(name and equals), f"hyper-parameter {pair!r} is not of the form name=number, such as gamma=2")
        values[name] = tuple(numbers) if "," in text else numbers[0]
    return values
