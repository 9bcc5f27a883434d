"""What is compared: trainings, from their runs or presets, and a mixture, from a run or preset of pretraining."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from edl_jax.core.config import load_preset, override, preset_names, to_dict
from edl_jax.core.errors import UserError, canonical, command, local_path, require
from edl_jax.core.files import read_json
from edl_jax.core.inputs import Input
from edl_jax.downstream.classifier import read_config
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.pretrain import ObjectiveConfig, PretrainConfig


@dataclasses.dataclass(frozen=True)
class Source:
    """A training that is made again.

    Attributes:
      name: of its directory and in tables; no other has it.
      given: what was typed.
      config: its settings.
      test_accuracy: what the run found, or None of a preset.
    """

    name: str
    given: str
    config: DownstreamConfig
    test_accuracy: float | None

    @property
    def title(self) -> str:
        """What figures and tables say of it."""
        return f"{self.config.loss_title}, {self.config.arch} on {self.config.dataset}"

    @property
    def input(self) -> Input:
        """What a resumed comparison must find again."""
        return Input(f"the settings of {self.given}", digest(self.config))


def digest(config: Any) -> str:
    """Return a hash of the settings in a config."""
    content = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def read_sources(given: tuple[str, ...]) -> list[Source]:
    """Return the trainings that were asked for.

    Raises:
      UserError: none, one twice, no finished downstream run, or no preset.
    """
    require(
        len(given) > 0,
        f"no run given: {command('transfer')} RUN [RUN ...], directories of finished downstream runs or its presets",
    )
    found: list[Source] = []
    for text in given:
        config, accuracy, stem = _read(text)
        require(
            all(config != other.config for other in found),
            f"{text} has the settings of a run before it, expected each training once",
        )
        found.append(Source(f"{len(found) + 1}-{stem}", text, config, accuracy))
    return found


def _read(text: str) -> tuple[DownstreamConfig, float | None, str]:
    """Return (settings, test accuracy where it is known, name) of a training."""
    path, presets = local_path(text), preset_names("downstream")
    if path.is_dir():
        config = read_config(path)
        file = path / "result.json"
        require(file.is_file(), f"{path} is no finished run (result.json is missing): finish it with --resume")
        try:
            accuracy = read_json(file).get("test_accuracy")
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read ({error}): put back a copy, or leave that run out") from error
        return config, accuracy if isinstance(accuracy, float) else None, path.absolute().name
    if path.suffix in (".yaml", ".yml") or canonical(text, presets) in presets:
        return load_preset("downstream", text, DownstreamConfig()), None, path.stem
    raise UserError(
        f"no run at {text}: expected the directory of a finished downstream run, or a preset of downstream: "
        f"{', '.join(presets)}, or the path of a YAML file"
    )


def read_objective(given: str) -> ObjectiveConfig:
    """Return the mixture that was asked for, with the objective that it is meant for.

    Args:
      given: directory of a run of pretrain, a preset of it, or a YAML file.

    Raises:
      UserError: none of these, or one that cannot be read.
    """
    path = local_path(given)
    if not path.is_dir():
        looks_like_path = path.suffix not in (".yaml", ".yml") and (os.sep in given or given.startswith("~"))
        require(not looks_like_path, f"no run at {given}: expected a run or a preset of pretrain, or a YAML file")
        return load_preset("pretrain", given, PretrainConfig()).objective
    return _objective_of_run(path).objective


def _objective_of_run(path: Path) -> PretrainConfig:
    file = path / "config.json"
    require(file.is_file(), f"no run at {path}: expected the directory of a run of pretrain, which holds config.json")
    try:
        record: dict[str, Any] = read_json(file)
        name, settings = record["command"], record["config"]
        if not isinstance(settings, dict):
            raise TypeError(f"its config is a {type(settings).__name__}")
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}): give another --mixture") from error
    require(name == "pretrain", f"{path} is a {name} run, expected a run of pretrain for --mixture")
    return override(PretrainConfig(), settings, source=str(file))
