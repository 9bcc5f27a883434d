"""The commands on image classifiers; see `commands`."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from edl_jax.config import load_preset
from edl_jax.errors import DivergedError, require
from edl_jax.flags import parse, preset

# What downstream prints of a result.
_DOWNSTREAM = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "train accuracy",
    "test_nll": "NLL",
    "test_ece": "ECE",
}


def downstream(args: list[str]) -> None:
    """Train an image classifier with a loss."""
    from edl_jax import downstream as stage2
    from edl_jax.training import allocator

    allocator.keep_freed_memory()

    @dataclasses.dataclass(frozen=True)
    class Downstream:
        """Train an image classifier with a loss and write its metrics to OUT."""

        settings: Annotated[stage2.DownstreamConfig, tyro.conf.arg(name="")]
        config: str = "default"
        """Preset (a name from configs/downstream, or the path of a YAML file)."""
        seeds: tuple[int, ...] = ()
        """Seeds of several runs, in OUT/seed-K, in place of --seed, such as 0 1 2."""
        data_dir: Path | None = None
        """TFDS directory (default: TFDS's own)."""
        cache_dir: Path | None = None
        """Where decoded images are kept (default: the user's cache folder)."""
        out: Path | None = None
        """Run directory (default: runs/downstream-TIME)."""
        resume: bool = False
        """Continue the run in --out from its newest checkpoint."""
        overwrite: bool = False
        """Replace the run in --out."""
        tensorboard: bool = False
        """Write the scalars of each epoch to OUT/tensorboard (needs the package tensorboardX)."""
        profile: bool = False
        """Write a trace of the profiler to OUT/profile, and print achieved rates beside the measured peak."""

    default = Downstream(load_preset("downstream", preset(args), stage2.DownstreamConfig()))
    command = parse(Downstream, default, args, "downstream")
    options: dict[str, Any] = {
        "data_dir": command.data_dir,
        "cache_dir": command.cache_dir,
        "out": command.out,
        "resume": command.resume,
        "overwrite": command.overwrite,
        "tensorboard": command.tensorboard,
    }
    given = {arg.split("=")[0] for arg in args}
    if "--seeds" in given:
        require("--seed" not in given, "--seed and --seeds contradict each other: give one of them")
        require(not command.profile, "--profile looks at one run: give it with --seed, not with --seeds")
        _print_seeds(stage2.run_seeds(command.settings, command.seeds, **options), command.settings.loss)
        return
    result = stage2.run(command.settings, profile=command.profile, **options)
    shown = "   ".join(f"{title} {result[name]:.4f}" for name, title in _DOWNSTREAM.items())
    print(f"{result['loss']} on {command.settings.dataset}: {shown}")


def _print_seeds(result: dict[str, Any], loss: str) -> None:
    """Print mean and deviation over seeds; raise where some of them diverged."""
    if result["seeds"]:
        cells = []
        for name, title in _DOWNSTREAM.items():
            std = result["std"][name]
            cells.append(f"{title} {result['mean'][name]:.4f}" + ("" if std is None else f" ± {std:.4f}"))
        seeds = " ".join(map(str, result["seeds"]))
        print(f"{loss} on {result['dataset']}, seeds {seeds}: {'   '.join(cells)}")
    if result["diverged"]:
        total = len(result["seeds"]) + len(result["diverged"])
        raise DivergedError(f"{len(result['diverged'])} of {total} seeds diverged: {', '.join(result['diverged'])}")


def evaluate(args: list[str]) -> None:
    """Evaluate a trained classifier."""
    from edl_jax import evaluate as evaluation

    @dataclasses.dataclass(frozen=True)
    class Evaluate:
        """Evaluate the newest checkpoint of a downstream run: metrics and figures in RUN/evaluation."""

        run: tyro.conf.Positional[Path]
        """Run directory."""
        dataset: str | None = None
        """Data set whose test images are used (default: that of the run)."""
        temperature: bool = False
        """Report temperature scaling, fitted on each half of the test images for the other half."""
        data_dir: Path | None = None
        """TFDS directory (default: TFDS's own)."""
        cache_dir: Path | None = None
        """Where decoded images are kept (default: the user's cache folder)."""
        overwrite: bool = False
        """Replace an earlier evaluation on that data set."""

    command = parse(Evaluate, None, args, "evaluate")
    result = evaluation.run(
        command.run,
        dataset=command.dataset,
        temperature=command.temperature,
        data_dir=command.data_dir,
        cache_dir=command.cache_dir,
        overwrite=command.overwrite,
    )
    shown = ["accuracy", "top5_accuracy", "nll", "brier", "ece", "ece_equal_mass"]
    print("   ".join(f"{name} {result[name]:.4f}" for name in shown if name in result))
    if command.temperature and result["scaled"] is None:
        print(f"no temperature: {result['temperature_error']}")
    elif command.temperature:
        scaled = "   ".join(f"{name} {value:.4f}" for name, value in result["scaled"].items())
        print(f"at temperature {result['temperature']:.3f}: {scaled}")
    print(f"report: {short(result['report'])}")


def summarize(args: list[str]) -> None:
    """Print a table over finished runs."""
    from edl_jax.study import summary

    @dataclasses.dataclass(frozen=True)
    class Summarize:
        """Print mean and standard deviation over finished downstream runs that differ only in their seed."""

        runs: tyro.conf.Positional[tuple[Path, ...]]
        """Run directories."""

    command = parse(Summarize, None, args, "summarize")
    print(summary.table(summary.read(command.runs)))


def short(path: str) -> str:
    """Return a path relative to the working directory where that is shorter."""
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
