"""Losses that are there before the study: known ones, random ones, those of runs and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edl_jax import loss
from edl_jax.core.errors import UserError, command, local_path, require
from edl_jax.core.files import read_json
from edl_jax.loss import expression
from edl_jax.loss.expression import FormulaError, Record
from edl_jax.search import nlfs
from edl_jax.search.seeds import COMMAND as SEEDS
from edl_jax.study.candidates import Stored, of_runs
from edl_jax.study.correlate.formulas import formula_of
from edl_jax.study.loss_spec import parse_loss

EVOLVED, FORMULA, FOUND = "evolved", "formula", "found"
FAMILIES = (EVOLVED, FORMULA, FOUND)
"""What losses are: learned by evolution, written by people, found by a search or at random."""
_DRAW = 5  # number of the generator
_TRIES = 20  # draws of random losses for those that are finite


class Source(NamedTuple):
    """A loss before it is put on a scale.

    Attributes:
      name: short.
      family: one of `FAMILIES`.
      origin: where it comes from, in words.
      stored: the loss: a network or a formula.
    """

    name: str
    family: str
    origin: str
    stored: loss.Artifact | loss.FormulaArtifact


def known(texts: Sequence[str], num_classes: int) -> list[Source]:
    """Return losses by name with their hyper-parameters, or by formula.

    Raises:
      UserError: an unknown name, hyper-parameter, or a loss without a formula.
    """
    found = []
    for place, text in enumerate(texts, 1):
        spec = parse_loss(text)
        if spec.name in loss.names():
            stored = loss.artifact_of(spec.name, **spec.hyper_parameters)
            found.append(_of_stored(spec.text, "a known loss", stored, num_classes))
            continue
        try:
            artifact = loss.FormulaArtifact.from_formula(text)
        except FormulaError as error:
            if set(text) & set("()*/+ "):
                raise UserError(f"loss {text!r} is no formula: {error}") from error
            loss.get(text)  # says which names there are
            raise
        found.append(Source(f"formula-{place}", FORMULA, "a formula", artifact))
    return found


def random(count: int, seed: int) -> list[Source]:
    """Return random losses that pass NLFS's integrity check and have finite slopes everywhere."""
    rng = np.random.default_rng([seed, _DRAW])
    found: list[Source] = []
    for _ in range(_TRIES):
        if len(found) == count:
            break
        genomes = nlfs.random_valid(rng, nlfs.NLFSConfig(), count)
        for genome, table in zip(genomes, nlfs.tables_of_genomes(genomes), strict=True):
            if len(found) < count and np.isfinite(table).all():
                artifact = loss.FormulaArtifact(Record(genome.expression(), flip=genome.flip))
                found.append(Source(f"random-{len(found) + 1}", FOUND, "random, passes NLFS's check", artifact))
    require(len(found) == count, f"random is {count}, but only {len(found)} finite losses were drawn: lower it")
    return found


def of_paths(texts: Sequence[str], best: int, num_classes: int) -> list[Source]:
    """Return the losses of runs and files.

    Args:
      texts: directories of finished runs of pretrain or search, or paths of artifacts.
      best: losses of each search.
      num_classes: C.

    Raises:
      UserError: something else, an unfinished run, or a path given twice.
    """
    paths = [local_path(text) for text in texts]
    for text, path in zip(texts, paths, strict=True):
        same = sum(path.resolve() == other.resolve() for other in paths)
        require(same == 1, f"{text} is given {same} times, expected each run and artifact once")
    found: list[Source] = []
    for place, (text, path) in enumerate(zip(texts, paths, strict=True), 1):
        if not path.is_dir():
            require(
                path.suffix == ".safetensors",
                f"no run at {text}: expected the directory of a finished run of pretrain or search, or the path of an "
                "artifact, PATH.safetensors",
            )
            loss.load(path)  # refuses a loss of regression
            found.append(_of_stored(f"{place}-{path.stem}", text, loss.load_artifact(path), num_classes))
        elif _command_of(path) == "pretrain":
            found += _of_pretraining(place, text, path, num_classes)
        else:
            searched = of_runs([path], best, num_classes=num_classes)
            found += [
                _of_stored(f"{place}-{path.absolute().name}-{i}", f"{text}, place {i}", each.loss, num_classes)
                for i, each in enumerate(searched, 1)
            ]
    return found


def _command_of(path: Path) -> str:
    file = path / "config.json"
    require(file.is_file(), f"{path} is no run directory (it has no config.json): give a run of pretrain or search")
    try:
        made = read_json(file).get("command")
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): put back a copy, or leave that run out") from error
    require(
        made in ("pretrain", "search", SEEDS),
        f"{path} is a {made} run, expected one of {command('pretrain')} or {command('search')}",
    )
    return str(made)


def _of_pretraining(place: int, text: str, path: Path, num_classes: int) -> list[Source]:
    """Return the loss of a run of pretrain, or those of each of its runs."""
    require(
        (path / "result.json").is_file(),
        f"{path} is no finished run (result.json is missing): finish it with --resume, or leave it out",
    )
    files = sorted((path / "losses").glob("*.safetensors"), key=lambda file: (len(file.name), file.name))
    name = f"{place}-{path.absolute().name}"
    if not files:
        return [_of_stored(name, text, loss.load_artifact(path), num_classes)]
    return [
        _of_stored(f"{name}-{file.stem}", f"{text}, run {file.stem}", loss.load_artifact(file), num_classes)
        for file in files
    ]


def _of_stored(name: str, origin: str, stored: Stored, num_classes: int) -> Source:
    """Return the source of an artifact; a loss of the zoo becomes its formula."""
    if isinstance(stored, loss.NamedArtifact):
        text = formula_of(stored.name, stored.parameters, num_classes)
        return Source(name, FORMULA, origin, loss.FormulaArtifact(Record(expression.parse(text))))
    if isinstance(stored, loss.FormulaArtifact):
        return Source(name, FOUND, origin, stored)
    return Source(name, FORMULA if stored.network.kind == "table" else EVOLVED, origin, stored)
