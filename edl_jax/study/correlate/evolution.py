"""Losses of every quality: evolutions on several mixtures, the best solution after some of their generations."""

import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import yaml
from tqdm import tqdm

from edl_jax import loss
from edl_jax.core.config import load_preset, override
from edl_jax.core.errors import UserError, require
from edl_jax.core.stopping import Stop
from edl_jax.loss.networks.kinds import is_separable
from edl_jax.pretrain import PretrainConfig
from edl_jax.pretrain.generations import Evolution, compile_chunk, is_little_work, make_evolution
from edl_jax.study.candidates import folder_name
from edl_jax.study.correlate.sources import EVOLVED, Source
from edl_jax.synthetic import calibrate

_CALL = 25  # generations at most between two looks at whether to stop
_CALIBRATION_KEY = 102
_LOGGER = logging.getLogger("edl_jax")


class Plan(NamedTuple):
    """An evolution.

    Attributes:
      name: what was typed, different from those of the others.
      config: its settings.
    """

    name: str
    config: PretrainConfig


def read_plans(mixtures: Sequence[str], generations: Sequence[int], num_classes: int, seed: int) -> list[Plan]:
    """Return the evolution of each mixture.

    Args:
      mixtures: PRESET or PRESET:KEY=VALUE,..., a preset of pretrain or a YAML file.
      generations: the last is that of the end.
      num_classes: C.
      seed: of all evolutions.

    Raises:
      UserError: an unknown preset or key, a value that it cannot have, or losses of another form than a sum over the
        classes of functions of one variable.
    """
    plans = []
    for text in mixtures:
        config = _read(text)
        try:
            config = dataclasses.replace(
                config, num_classes=num_classes, seed=seed, runs=1, generations=generations[-1]
            ).settled()
        except UserError as error:
            raise UserError(f"mixture {text!r}: {error}") from error
        kind = config.network.kind
        require(
            is_separable(config.network),
            f"mixture {text!r} evolves a {kind} network, which is no function of one variable per class: expected kind "
            "true_class, monotone_true_class, per_class or monotone",
        )
        plans.append(Plan(text, config))
    return plans


def evolve(plans: Sequence[Plan], generations: Sequence[int], folder: Path, stop: Stop) -> list[Source]:
    """Return the best loss of each evolution after each of some generations; those that are stored are kept.

    Args:
      plans: evolutions.
      generations: ascending.
      folder: where losses are stored; a mixture that lacks one is evolved again from the start.
      stop: looked at every second or so, but for a compilation.
    """
    found: list[Source] = []
    total = len(plans) * (generations[-1] if plans else 0)
    with tqdm(total=total, unit="gen", desc="evolving", disable=not sys.stderr.isatty()) as bar:
        for place, plan in enumerate(plans):
            names = [f"{plan.name}@{generation}" for generation in generations]
            files = [folder / f"{folder_name(name)}.safetensors" for name in names]
            stored = _stored(files)
            if stored is None:
                bar.set_postfix_str(f"{plan.name}: compiling")
                stop.check(f"{place} of {len(plans)} evolutions")
                stored = []
                for artifact, file in zip(_run(plan.config, generations, bar, stop), files, strict=True):
                    bar.set_postfix_str(plan.name)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    loss.save(artifact, file)
                    stored.append(artifact)
            bar.n = (place + 1) * generations[-1]
            bar.refresh()
            texts = [_text(plan.name, generation) for generation in generations]
            found += [
                Source(name, EVOLVED, origin, artifact)
                for name, origin, artifact in zip(names, texts, stored, strict=True)
            ]
    return found


def _text(name: str, generation: int) -> str:
    return f"mixture {name}, {generation} generation{'' if generation == 1 else 's'}"


def _read(text: str) -> PretrainConfig:
    name, colon, rest = text.partition(":")
    config = load_preset("pretrain", name, PretrainConfig())
    values: dict[str, Any] = {}
    for item in rest.split(",") if colon else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        require(
            bool(key and equals and value),
            f"mixture {text!r}: {item!r} is not of the form KEY=VALUE, such as severity=margin",
        )
        *outer, last = key.split(".")
        inner = values
        for part in outer:
            inner = inner.setdefault(part, {})
        try:
            inner[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"mixture {text!r}: the value of {key} cannot be read: quote it") from error
    return override(config, values, source=f"mixture {text!r}")


def _stored(files: Sequence[Path]) -> list[loss.Artifact] | None:
    """Return the losses of files, or None where one is missing or damaged."""
    if not all(file.is_file() for file in files):
        return None
    try:
        found = [loss.load_artifact(file) for file in files]
    except UserError as error:
        _LOGGER.warning("%s: evolving it again", error)
        return None
    return [artifact for artifact in found if isinstance(artifact, loss.Artifact)]


def _run(config: PretrainConfig, generations: Sequence[int], bar: Any, stop: Stop) -> Iterator[loss.Artifact]:
    """Yield the best loss after each of some generations."""
    chunk = min(_CALL, generations[-1])
    evolution = make_evolution(config, chunk=chunk, quick=is_little_work(config))
    evolve = compile_chunk(evolution, 1, config.es.population_size)
    search, inputs = evolution.init(jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + 1)))
    done = 0
    for generation in generations:
        while done < generation:
            stop.check()
            count = min(chunk, generation - done)
            search, _ = jax.block_until_ready(evolve(search, inputs, jnp.int32(count)))
            done += count
            bar.update(count)
        yield _artifact(config, evolution, search.best[0])


def _artifact(config: PretrainConfig, evolution: Evolution, solution: jax.Array) -> loss.Artifact:
    key = jax.random.fold_in(jax.random.key(config.seed), _CALIBRATION_KEY)
    params = evolution.unravel(solution)
    return loss.Artifact(config.network, params, calibrate(key, config.network, params, config.mixture))
