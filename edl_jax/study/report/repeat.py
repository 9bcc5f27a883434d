"""The command line that makes a run again, from the settings that its config.json holds."""

import dataclasses
import importlib
import logging
import shlex
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import tyro

from edl_jax.core.config import completed, load_preset, preset_names, to_dict
from edl_jax.core.errors import command

_LOGGER = logging.getLogger("edl_jax")
_SEEDS = "-seeds"  # of the commands that make several runs in one directory


class Maker(typing.NamedTuple):
    """What reads the settings of a command.

    Attributes:
      module: where its config is.
      config: name of that.
      presets: command whose presets it takes.
    """

    module: str
    config: str
    presets: str


_MAKERS: Mapping[str, Maker] = {
    "pretrain": Maker("edl_jax.pretrain", "PretrainConfig", "pretrain"),
    "downstream": Maker("edl_jax.downstream", "DownstreamConfig", "downstream"),
    "ablate": Maker("edl_jax.study.ablate", "AblateConfig", "ablate"),
    "compare": Maker("edl_jax.study.compare", "CompareConfig", "downstream"),
    "search": Maker("edl_jax.search", "SearchConfig", "search"),
    "eliminate": Maker("edl_jax.study.eliminate", "EliminateConfig", "eliminate"),
    "surrogate-study": Maker("edl_jax.study.surrogates", "SurrogateConfig", "surrogate-study"),
    "correlate": Maker("edl_jax.study.correlate", "CorrelateConfig", "correlate"),
    "transfer": Maker("edl_jax.study.transfer", "TransferConfig", "transfer"),
    "flatness": Maker("edl_jax.study.flatness", "FlatnessConfig", "flatness"),
}


def repeat(name: str, stored: Mapping[str, Any]) -> str | None:
    """Return the shortest command line that has these settings; None for a command or settings that are not known.

    It begins with the preset that is nearest to them; the directory of data is left to who types it.

    Args:
      name: command that made the run.
      stored: its settings, as config.json has them.
    """
    several = name.endswith(_SEEDS)
    settings = stored.get("settings", stored) if several else stored
    maker = _MAKERS.get(name.removesuffix(_SEEDS))
    if maker is None or not isinstance(settings, Mapping):
        return None
    try:
        default = getattr(importlib.import_module(maker.module), maker.config)()
        wanted = completed(settings, default)
        if several:  # whose first one it is
            wanted["seed"] = default.seed
        candidates = [(preset, _preset(name, maker, default, preset)) for preset in preset_names(maker.presets)]
        lines = [_words(config, wanted, preset) for preset, config in candidates]
        positional = [str(word) for word in _positional(default, wanted)]
        seeds = [str(seed) for seed in stored.get("seeds", ())] if several else []
    except Exception as error:  # settings of another release, or a package that needs a device to be imported
        _LOGGER.debug("no command line of %s", name, exc_info=error)
        return None
    best = min(lines, key=len) + (["--seeds", *seeds] if several else [])
    return command(shlex.join([name.removesuffix(_SEEDS), *positional, *best]))


def _preset(name: str, maker: Maker, default: Any, preset: str) -> Any:
    if name == "compare":
        return type(default)(training=load_preset(maker.presets, preset, default.training))
    return load_preset(maker.presets, preset, default)


def _words(config: Any, wanted: Mapping[str, Any], preset: str) -> list[str]:
    """Return the flags from a preset's config to the settings that are wanted."""
    return ["--config", preset, *(word for flag in _flags(config, wanted) for word in flag)]


def _flags(config: Any, wanted: Mapping[str, Any], prefix: str = "--") -> Iterator[list[str]]:
    before = to_dict(config)
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        _, *extras = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
        value: Any = wanted.get(name)
        if tyro.conf.Positional in extras or value == before[name]:
            continue
        flag = prefix + name.replace("_", "-")
        inner = getattr(config, name)
        if dataclasses.is_dataclass(inner):
            flat = any(getattr(extra, "name", None) == "" for extra in extras)
            if not isinstance(value, Mapping):
                raise TypeError(f"{name} is {value!r}, expected a mapping")
            yield from _flags(inner, value, prefix if flat else f"{flag}.")
        elif name == "seeds" and tyro.conf.Suppress in extras:  # whose flag takes ranges
            yield [flag, *_ranges(value)]
        elif tyro.conf.Suppress not in extras:
            no = f"{prefix}no-{flag.removeprefix(prefix)}"
            yield [flag if value else no] if isinstance(value, bool) else _flag(flag, value)


def _flag(flag: str, value: Any) -> list[str]:
    words = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    if len(words) == 1 and words[0].startswith("-"):
        return [f"{flag}={words[0]}"]
    return [flag, *words]


def _ranges(seeds: Sequence[int]) -> list[str]:
    """Return seeds as `--seeds` takes them: 0-9 for ten in a row."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return [f"{seeds[0]}-{seeds[-1]}"]
    return [str(seed) for seed in seeds]


def _positional(config: Any, wanted: Mapping[str, Any]) -> list[Any]:
    hints = typing.get_type_hints(type(config), include_extras=True)
    names = [name for name, hint in hints.items() if tyro.conf.Positional in typing.get_args(hint)]
    return [item for name in names for item in wanted.get(name, ())]
