"""Mean and standard deviation over finished downstream runs."""

import contextlib
import itertools
import operator
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from edl_jax.core.config import differences
from edl_jax.core.errors import UserError, command, local_path
from edl_jax.core.files import read_json

_SEEDS = "downstream-seeds"  # COMMAND of downstream.seeds, whose import takes seconds
_COLUMNS = (
    ("train_accuracy", "train accuracy"),
    ("test_accuracy", "test accuracy"),
    ("test_nll", "NLL"),
    ("test_ece", "ECE"),
    ("images_per_second", "images/s"),
)


def read(paths: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """Return the results of finished runs by loss.

    Args:
      paths: run directories, or directories of several seeds, which stand for their finished runs.

    Raises:
      UserError: no paths, a directory without a result, runs that differ in more than loss and seed, or two
        of the same loss and seed.
    """
    if not paths:
        raise UserError(f"no run directories given: {command('summarize')} RUN [RUN ...]")
    groups: dict[str, list[dict[str, Any]]] = {}
    first: tuple[Path, dict[str, Any]] | None = None
    seen: dict[tuple[str, int], Path] = {}
    for path in itertools.chain.from_iterable(_expanded(local_path(path)) for path in paths):
        try:
            record, result = read_json(path / "config.json"), read_json(path / "result.json")
            if record["command"] != "downstream":
                raise UserError(f"{path} is a {record['command']} run, expected a downstream run")
            settings = dict(record["config"])
            seed, parameters = settings.pop("seed"), settings.pop("loss_parameters", [])
            name = settings.pop("loss") + (f" ({', '.join(parameters)})" if parameters else "")
            result = {**{key: _number(result, key) for key, _ in _COLUMNS}, "seed": operator.index(seed)}
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{path} is no finished run ({Path(error.filename).name} is missing)") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} holds damaged JSON ({error}): put back a copy, or leave that run out") from error
        if first is None:
            first = (path, settings)
        elif settings != first[1]:
            changed = "; ".join(differences(first[1], settings)[:3])
            raise UserError(f"{path} and {first[0]} differ in more than loss and seed ({changed})")
        if (name, seed) in seen:  # counted twice, a run would shrink the standard deviation
            raise UserError(f"{path} and {seen[name, seed]} have the same loss and seed ({name}, {seed}): give one")
        seen[name, seed] = path
        groups.setdefault(name, []).append(result)
    return groups


def _expanded(path: Path) -> list[Path]:
    """Return the finished runs in a directory of several seeds, or the directory itself where it is another."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if read_json(path / "config.json")["command"] == _SEEDS:
            seeds = read_json(path / "result.json")["seeds"]
            return [path / f"seed-{operator.index(seed)}" for seed in seeds]
    return [path]


def _number(result: Mapping[str, Any], name: str) -> float | None:
    """Return a number of a result, None where it has none or one that was not finite."""
    value = result.get(name)
    if not isinstance(value, (int, float, NoneType)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    return None if value is None else float(value)


def table(groups: dict[str, list[dict[str, Any]]]) -> str:
    """Return a Markdown table: one row per loss, mean ± sample standard deviation over seeds."""
    header = ["loss", "seeds", *(title for _, title in _COLUMNS)]
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    for name, results in sorted(groups.items()):
        seeds = " ".join(str(result["seed"]) for result in sorted(results, key=lambda r: r["seed"]))
        cells = [_cell([result.get(key) for result in results], key) for key, _ in _COLUMNS]
        lines.append(f"| {' | '.join([name, seeds, *cells])} |")
    return "\n".join(lines)


def _cell(values: list[float | None], key: str) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    digits = 0 if key == "images_per_second" else 4
    mean = f"{statistics.fmean(numbers):.{digits}f}"
    return f"{mean} ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else mean
