"""Small finished and interrupted runs, and what each command may do to the files that it reads."""

import contextlib
import dataclasses
import gzip
import hashlib
import json
import re
import shutil
import signal
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
import pytest
from fuzz_harness import Outcome, call, restore, tree
from program_cases import shared_trainers

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run
from edl_jax.data import prepare
from edl_jax.downstream import seeds, single
from edl_jax.downstream.trainer import Trainers
from edl_jax.loss.networks import kinds
from edl_jax.plot import classifier, pretraining
from edl_jax.pretrain import evolve
from edl_jax.study import losses
from edl_jax.study.ablate import figures, measurement
from edl_jax.study.report import drawing
from edl_jax.training.progress import Progress

# What a run measures, which two equal ones do not share.
TIMINGS = re.compile(r".*seconds.*|.*_per_second|peak_memory_mib")
SMALL = ("--config", "debug", "--train-size", "128", "--epochs", "3")
STOPPED = "stopped before training"
# Shares of the mutations, by scenario: few of what takes a second. With those of presets, flags and names they make 1.
SHARES = {
    "finished": 0.09,
    "half": 0.05,
    "stopped": 0.03,
    "evaluated": 0.04,
    "evaluated half": 0.04,
    "predicted": 0.04,
    "exported": 0.003,
    "seeds": 0.08,
    "summary": 0.06,
    "report": 0.02,
    "pretrain": 0.015,
    "pretrain half": 0.015,
    "ablate": 0.03,
    "edl.safetensors": 0.03,
    "edl_optimum.safetensors": 0.03,
    "formula.safetensors": 0.03,
    "named.safetensors": 0.03,
    "per_class.safetensors": 0.03,
    "losses edl.safetensors": 0.002,
    "losses edl_optimum.safetensors": 0.002,
    "losses formula.safetensors": 0.002,
    "losses named.safetensors": 0.002,
    "losses per_class.safetensors": 0.002,
    "tfds": 0.07,
    "cache": 0.06,
    "images": 0.05,
}


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A command, the folder that it works on, and what it may do there.

    Attributes:
      root: folder of all that is read.
      arguments: of the command.
      damaged: pattern of the files that are damaged, by their names below the root.
      replaced: pattern of the names that the command may write, its purpose being that.
      result: file of numbers that a command leaves equal which succeeds, whatever `exact` file was damaged.
      exact: pattern of those files.
      may_warn: whether other numbers are right where a warning says that an older checkpoint was taken.
      work: whether the command does its work; else it ends where that would begin.
      numbers: of `result`, without damage.
    """

    root: Path
    arguments: tuple[str, ...]
    damaged: str
    replaced: str
    result: str | None = None
    exact: str = r"(?!)"
    may_warn: bool = False
    work: bool = True
    numbers: Any = None

    def call(self) -> Outcome:
        """Run the command."""
        with contextlib.nullcontext() if self.work else no_work():
            return call(self.arguments)

    def files(self) -> list[str]:
        """Return the names of the files that are damaged."""
        return sorted(n for n, x in tree(self.root).items() if isinstance(x, bytes) and re.fullmatch(self.damaged, n))


def numbers(value: Any) -> Any:
    """Return a record without what is measured and without paths."""
    if isinstance(value, dict):
        return {k: numbers(x) for k, x in value.items() if not TIMINGS.fullmatch(k) and k != "artifact"}
    return [numbers(x) for x in value] if isinstance(value, list) else value


def numbers_of(path: Path) -> Any:
    """Return the numbers of a JSON file."""
    return numbers(json.loads(path.read_text(encoding="utf-8")))


@contextlib.contextmanager
def quick_programs(draw: bool = False) -> Iterator[None]:
    """Compile equal programs once, and draw nothing unless asked: pictures take longer than all the rest."""
    with shared_trainers(seeds, single), pytest.MonkeyPatch.context() as patch:
        pictures = ((classifier, "draw"), (pretraining, "draw"), (figures, "draw"), (drawing, "draw_all"))
        for module, name in () if draw else pictures:
            patch.setattr(module, name, lambda *_, **__: None)
        yield


@contextlib.contextmanager
def no_work() -> Iterator[None]:
    """End every command with a line where the work would begin: all that is checked before has been."""

    def stop(*_: object, **__: object) -> None:
        raise UserError(STOPPED)

    class Stopped(Trainers):
        get = stop

    with pytest.MonkeyPatch.context() as patch:
        for module in (seeds, single):
            patch.setattr(module, "Trainers", Stopped)
        for module in (evolve, measurement):
            patch.setattr(module, "make_evolution", stop)
        patch.setattr(losses, "run", stop)
        yield


class Killed(BaseException):
    """Stands for a kill."""


def killed(arguments: Sequence[str], saves: int) -> None:
    """Run a command until its checkpoint of that number is written."""
    save, done = Run.save, []

    def counted(self, *rest):
        save(self, *rest)
        done.append(rest)
        if len(done) == saves:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save", counted)
        with contextlib.suppress(Killed):
            call(arguments)
    assert len(done) == saves


def stopped(arguments: Sequence[str], steps: int) -> None:
    """Run a command that meets SIGTERM after so many steps."""
    enough, left = Progress.enough, [steps]

    def meet(self, done):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGTERM)
        return enough(self, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "enough", meet)
        outcome = call(arguments)
    assert outcome.code == 128 + signal.SIGTERM, str(outcome)


def succeed(arguments: Sequence[str]) -> None:
    """Run a command that must succeed."""
    outcome = call(arguments)
    assert outcome.code == 0, str(outcome)
    assert not outcome.faults, str(outcome)


def image_folder(root: Path, names: Sequence[str], count: int = 40) -> Path:
    """Write a folder of small images of these classes."""
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 4)):
        for i, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True)
            for j in range(number):
                image = rng.integers(0, 128, (8, 8, 3), dtype=np.uint8) + np.uint8(100 * (i % 2))
                (folder / f"{j}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return root


def tfds_folder(root: Path, scratch: Path) -> Path:
    """Prepare a random data set of MNIST's format."""
    from tensorflow_datasets.image_classification import mnist

    rng, files = np.random.default_rng(0), []
    for prefix, count in (("train", 200), ("t10k", 40)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(">" + "i" * (1 + array.ndim), 0x800 + array.ndim, *array.shape)
            files.append(scratch / f"{prefix}-{kind}-ubyte.gz")
            files[-1].write_bytes(gzip.compress(header + array.tobytes(), 1))
    checksums = {x.name: (x.stat().st_size, hashlib.sha256(x.read_bytes()).hexdigest()) for x in files}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "_TRAIN_EXAMPLES", 200)
        patch.setattr(mnist, "_TEST_EXAMPLES", 40)
        prepare("mnist", archive=files, data_dir=root, _checksums=checksums)
    return root


def artifacts(folder: Path) -> None:
    """Store a loss of each kind."""
    for name in ("edl", "edl_optimum"):
        loss.save(loss.load_artifact(name), folder / f"{name}.safetensors")
    network = loss.NetworkConfig(kind="per_class", hidden=(4,), activation="tanh")
    params = kinds.init(jax.random.key(0), network, None)
    loss.save(loss.Artifact(network, params, loss.Calibration()), folder / "per_class.safetensors")
    loss.save(loss.FormulaArtifact.from_formula("-y * ln(p) + 0.5 * p ** 2"), folder / "formula.safetensors")
    loss.save(loss.NamedArtifact("focal", {"gamma": 2.0}), folder / "named.safetensors")


def prepared(root: Path) -> dict[str, Scenario]:
    """Make all runs, each in a folder of its own, and return what is called on them."""
    found: dict[str, Scenario] = {}
    run, half, midway = (root / name / "run" for name in ("finished", "half", "stopped"))
    environment = r"(.*/)?environment\.json"
    for path in (run, half, midway):
        path.parent.mkdir()
    base = ("downstream", *SMALL)
    succeed((*base, "--out", run))
    killed((*base, "--out", half), saves=3)  # that of the start, and two of epochs
    stopped((*base, "--out", midway), steps=5)  # the first of the third epoch
    assert (midway / "stopped").is_dir()
    resume = (*base, "--out", run, "--resume")
    whole = r"run/(config|classifier|environment|result|report)\.json|run/metrics\.jsonl|run/checkpoints/.*"
    found["finished"] = Scenario(
        run.parent, resume, whole, rf"{environment}|run/checkpoints.*", "run/result.json", r"run/checkpoints/.*"
    )
    work = rf"{environment}|run/(classifier|result|report)\.json|run/metrics\.jsonl|run/checkpoints.*"
    found["half"] = Scenario(
        half.parent, (*base, "--out", half, "--resume"), whole, work, "run/result.json", r"run/checkpoints/.*"
    )
    found["stopped"] = dataclasses.replace(
        found["half"],
        root=midway.parent,
        arguments=(*base, "--out", midway, "--resume"),
        damaged=r"run/metrics\.jsonl|run/(checkpoints|stopped)/.*",
        replaced=rf"{work}|run/stopped.*",
        exact=r"run/(checkpoints|stopped)/.*",
    )
    for name, source in (("evaluated", run), ("evaluated half", half)):
        (root / name).mkdir()
        shutil.copytree(source, root / name / "run")
        line = ("evaluate", root / name / "run", "--temperature")
        found[name] = Scenario(root / name, line, whole, r"run/evaluation(/.*)?")
        found[name] = dataclasses.replace(
            found[name],
            result="run/evaluation/digits.json",
            exact=r"(?!run/(config|classifier)\.json).*",
            may_warn=True,
        )

    folder = root / "predicted"
    shutil.copytree(root / "evaluated" / "run", folder / "run")
    succeed(("evaluate", folder / "run", "--temperature"))
    image_folder(folder / "images", ("a",), count=3)
    read = r"run/(config|classifier)\.json|run/(checkpoints|evaluation)/.*|images/.*"
    line = ("predict", folder / "run", folder / "images", "--temperature")
    found["predicted"] = Scenario(folder, line, read, r"(?!)")
    line = ("export", folder / "run", "--out", folder / "new")
    found["exported"] = Scenario(folder, line, r"run/(config|classifier)\.json|run/checkpoints/.*", r"new(/.*)?")

    folder = root / "seeds"
    folder.mkdir()
    several = (*base, "--seeds", "0", "1", "--out", folder / "run")
    succeed(several)
    found["seeds"] = Scenario(
        folder,
        (*several, "--resume"),
        r".*\.jsonl?|run/checkpoints/.*",
        rf"{environment}|run/result\.json|run/seed-\d(/checkpoints.*|/result\.json|/report\.json|/classifier\.json|/metrics\.jsonl)?",
    )
    folder = root / "summary"
    folder.mkdir()
    shutil.copytree(run, folder / "a")
    shutil.copytree(root / "seeds" / "run", folder / "b")
    config = json.loads((folder / "a" / "config.json").read_text())
    config["config"]["seed"] = 7
    (folder / "a" / "config.json").write_text(json.dumps(config))
    found["summary"] = Scenario(folder, ("summarize", folder / "a", folder / "b"), r".*\.jsonl?", r"(?!)")

    folder = root / "report"
    folder.mkdir()
    shutil.copytree(run, folder / "a")
    shutil.copytree(root / "seeds" / "run", folder / "b")
    line = ("report", folder / "a", folder / "b", "--out", folder / "page.html", "--overwrite")
    found["report"] = Scenario(folder, line, r"[ab]/.*\.jsonl?", r"page\.(html|md)|page_files(/.*)?")

    for name, saves in (("pretrain", 0), ("pretrain half", 2)):
        folder = root / name
        folder.mkdir()
        line = ("pretrain", "--config", "debug", "--out", folder / "run")
        if saves:
            killed(line, saves)
        else:
            succeed(line)
        found[name] = Scenario(
            folder,
            (*line, "--resume"),
            r"run/.*\.(json|jsonl|safetensors)|run/checkpoints/.*",
            rf"{environment}|run/(result\.json|metrics\.jsonl|.*\.safetensors|figures|checkpoints.*)",
            "run/result.json",
            r"run/checkpoints/.*|run/.*\.safetensors",
        )
    folder = root / "ablate"
    folder.mkdir()
    line = ("ablate", "--config", "debug", "--factors", "std", "--out", folder / "run")
    succeed(line)
    found["ablate"] = Scenario(
        folder,
        (*line, "--resume"),
        r"run/.*\.(json|md|npz)",
        rf"{environment}|run/(result\.json|report\.md|cells/.*|figures)",
    )

    folder = root / "artifacts"
    folder.mkdir()
    artifacts(folder)
    for path in sorted(folder.iterdir()):
        found[path.name] = Scenario(
            folder, (*base, "--loss", path, "--out", folder / "new"), path.name, r"new(/.*)?", work=False
        )
        found[f"losses {path.name}"] = Scenario(folder, ("losses", path), path.name, r"(?!)")

    folder = root / "tfds"
    folder.mkdir()
    tfds_folder(folder / "data", root)
    line = ("downstream", "--config", "debug", "--dataset", "mnist", "--train-size", "128", "--epochs", "2")
    line += ("--data-dir", folder / "data", "--cache-dir", folder / "cache", "--out", folder / "run")
    succeed(line)
    resume = (*line, "--resume")
    found["tfds"] = Scenario(folder, resume, r"data/.*", rf"{environment}|cache/.*", "run/result.json")
    found["cache"] = Scenario(folder, resume, r"cache/.*", rf"{environment}|cache/.*", "run/result.json")

    folder = root / "images"
    image_folder(folder / "set", ("cat", "dog"))
    line = ("downstream", "--config", "debug", "--dataset", folder / "set", "--train-size", "64", "--epochs", "2")
    line += ("--cache-dir", folder / "cache", "--out", folder / "run")
    succeed(line)
    found["images"] = Scenario(
        folder, (*line, "--resume"), r"set/.*|cache/.*", rf"{environment}|cache/.*", "run/result.json"
    )
    assert found.keys() == SHARES.keys()
    return {name: _with_numbers(scenario) for name, scenario in found.items()}


def _with_numbers(scenario: Scenario) -> Scenario:
    """Call once without damage, for the numbers and for what is compiled."""
    before = tree(scenario.root)
    outcome = scenario.call()
    assert not outcome.faults, str(outcome)
    assert (outcome.code == 0) == scenario.work, str(outcome)
    found = numbers_of(scenario.root / scenario.result) if scenario.result else None
    restore(scenario.root, before)
    return dataclasses.replace(scenario, numbers=found)
