"""The commands: each parses its flags, calls the function of the same name and prints what came out.

Flags override a preset (`--config NAME`), the preset overrides the defaults.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from edl_jax.config import load_preset
from edl_jax.errors import DivergedError, UserError, require, unknown
from edl_jax.flags import parse, preset

# What downstream prints of a result.
_DOWNSTREAM = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "train accuracy",
    "test_nll": "NLL",
    "test_ece": "ECE",
}


def _pretrain(args: list[str]) -> None:
    from edl_jax import pretrain

    @dataclasses.dataclass(frozen=True)
    class Pretrain:
        """Evolve a loss on synthetic pairs, calibrate it and write it to OUT/loss.safetensors."""

        settings: Annotated[pretrain.PretrainConfig, tyro.conf.arg(name="")]
        config: str = "default"
        """Preset (a name from configs/pretrain, or the path of a YAML file)."""
        out: Path | None = None
        """Run directory (default: runs/pretrain-TIME)."""
        resume: bool = False
        """Continue the run in --out from its newest checkpoint."""
        overwrite: bool = False
        """Replace the run in --out."""
        profile: bool = False
        """Print achieved rates beside the machine's measured ceilings."""

    default = Pretrain(load_preset("pretrain", preset(args), pretrain.PretrainConfig()))
    command = parse(Pretrain, default, args, "pretrain")
    result = pretrain.run(
        command.settings,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        profile=command.profile,
    )
    if command.settings.runs > 1:
        for name in ("ranking_accuracy", "fitness_ratio"):
            mean, std = result["mean"][name], result["std"][name]
            print(f"{command.settings.runs} runs: {name.replace('_', ' ')} {mean:.4f} ± {std:.4f}; the best one:")
    print(
        f"held-out ranking accuracy {result['ranking_accuracy']:.4f}   fitness {result['fitness']:.4f}, "
        f"{result['fitness_ratio']:.4f} of the optimum's"
    )
    fits = ", ".join(f"{name} {value:.4f}" for name, value in result["r_squared"].items())
    print(f"R^2 of the loss with: {fits}")
    print(f"loss artifact: {_short(result['artifact'])}")


def _design_mixture(args: list[str]) -> None:
    from edl_jax import design_mixture

    @dataclasses.dataclass(frozen=True)
    class DesignMixture:
        """Write a preset for pretrain whose mixture has a given loss as its optimum."""

        settings: Annotated[design_mixture.DesignConfig, tyro.conf.arg(name="")]
        out: Path | None = None
        """YAML file to write (default: runs/designed-TARGET.yaml)."""
        overwrite: bool = False
        """Replace the file in --out."""

    default = DesignMixture(design_mixture.DesignConfig())
    command = parse(DesignMixture, default, args, "design-mixture")
    result = design_mixture.run(command.settings, out=command.out, overwrite=command.overwrite)
    print(f"R^2 of {command.settings.target} with the optimum of this mixture: {result['r_squared']:.5f}")
    print(f"preset: {_short(result['preset'])}   figure: {_short(result['figure'])}")
    print(f"evolve it: python run.py pretrain --config {_short(result['preset'])}")


def _ablate(args: list[str]) -> None:
    from edl_jax.study import ablate

    @dataclasses.dataclass(frozen=True)
    class Ablate:
        """Vary one factor of pretraining at a time, with tests and figures in OUT/report.md and OUT/figures."""

        settings: Annotated[ablate.AblateConfig, tyro.conf.arg(name="")]
        config: str = "default"
        """Preset (a name from configs/ablate, or the path of a YAML file)."""
        out: Path | None = None
        """Directory of the study (default: runs/ablate-TIME)."""
        resume: bool = False
        """Keep the finished cells in --out and run the others."""
        overwrite: bool = False
        """Replace the study in --out."""
        retime: bool = False
        """Measure every cell's time a generation again, between runs of the base (for a machine that was shared)."""

    default = Ablate(load_preset("ablate", preset(args), ablate.AblateConfig()))
    command = parse(Ablate, default, args, "ablate")
    result = ablate.run(
        command.settings,
        out=command.out,
        resume=command.resume,
        overwrite=command.overwrite,
        retime=command.retime,
    )
    print(f"report: {_short(result['report'])}")


def _downstream(args: list[str]) -> None:
    from edl_jax import downstream

    @dataclasses.dataclass(frozen=True)
    class Downstream:
        """Train an image classifier with a loss and write its metrics to OUT."""

        settings: Annotated[downstream.DownstreamConfig, tyro.conf.arg(name="")]
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

    default = Downstream(load_preset("downstream", preset(args), downstream.DownstreamConfig()))
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
        _print_seeds(downstream.run_seeds(command.settings, command.seeds, **options), command.settings.loss)
        return
    result = downstream.run(command.settings, profile=command.profile, **options)
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


def _losses(args: list[str]) -> None:
    from edl_jax import losses

    @dataclasses.dataclass(frozen=True)
    class Losses:
        """List the losses, or describe one: formula, source, and properties computed from the loss itself."""

        name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
        """Loss to describe: a name, or the path of an artifact (default: list all)."""
        parameters: tuple[str, ...] = ()
        """Hyper-parameters of that loss, such as gamma=2."""
        formula: str | None = None
        """Formula in y and p, in place of NAME, such as '-y * ln(p)': its values are summed over the classes."""
        table: bool = False
        """Compute the properties of every loss, or of NAME, as a Markdown table."""
        plot: Path | None = None
        """PNG file to draw shape and gradient of NAME to, beside cross-entropy."""
        save: Path | None = None
        """File (.safetensors) to store the formula in, for --loss of downstream."""
        overwrite: bool = False
        """Replace the files in --plot and --save."""

    if "--formula" in args[:-1]:  # a formula may begin with a sign, which would read as a flag
        i = args.index("--formula")
        args = [*args[:i], f"--formula={args[i + 1]}", *args[i + 2 :]]
    command = parse(Losses, None, args, "losses")
    print(
        losses.run(
            command.name,
            formula=command.formula,
            parameters=command.parameters,
            table=command.table,
            plot=command.plot,
            save=command.save,
            overwrite=command.overwrite,
        )
    )


def _evaluate(args: list[str]) -> None:
    from edl_jax import evaluate

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
    result = evaluate.run(
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
    print(f"report: {_short(result['report'])}")


def _summarize(args: list[str]) -> None:
    from edl_jax.study import summary

    @dataclasses.dataclass(frozen=True)
    class Summarize:
        """Print mean and standard deviation over finished downstream runs that differ only in their seed."""

        runs: tyro.conf.Positional[tuple[Path, ...]]
        """Run directories."""

    command = parse(Summarize, None, args, "summarize")
    print(summary.table(summary.read(command.runs)))


def _data(args: list[str]) -> None:
    if args and args[0] in ("-h", "--help"):
        print("usage: run.py data prepare NAME [--archive PATH] [--data-dir DIR]")
        return
    if not args:
        raise UserError("no data command given, expected run.py data prepare NAME")
    if args[0] != "prepare":
        raise unknown("data command", args[0], ["prepare"])

    @dataclasses.dataclass(frozen=True)
    class Prepare:
        """Write a TFDS directory for a data set, without TensorFlow."""

        name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
        """cifar10, cifar100, fashion_mnist or mnist."""
        archive: Path | None = None
        """Published archive on disk (default: download it); for the MNIST sets the folder of its four files."""
        data_dir: Path | None = None
        """TFDS directory (default: TFDS's own)."""

    from edl_jax.data.prepare import prepare

    command = parse(Prepare, None, args[1:], "data prepare")
    path = prepare(command.name, archive=command.archive, data_dir=command.data_dir)
    print(f"{command.name} is ready in {path}")


def _short(path: str) -> str:
    """Return a path relative to the working directory where that is shorter."""
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "ablate": _ablate,
    "data": _data,
    "design-mixture": _design_mixture,
    "downstream": _downstream,
    "evaluate": _evaluate,
    "losses": _losses,
    "pretrain": _pretrain,
    "summarize": _summarize,
}
