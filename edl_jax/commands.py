"""The commands: each parses its flags, calls the function of the same name and prints what came out.

Flags override a preset (`--config NAME`), the preset overrides the defaults.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax import commands_downstream
from edl_jax.commands_downstream import short
from edl_jax.config import load_preset
from edl_jax.errors import UserError, unknown
from edl_jax.flags import parse, preset


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
    print(f"loss artifact: {short(result['artifact'])}")


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
    print(f"preset: {short(result['preset'])}   figure: {short(result['figure'])}")
    print(f"evolve it: python run.py pretrain --config {short(result['preset'])}")


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
    print(f"report: {short(result['report'])}")


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


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "ablate": _ablate,
    "data": _data,
    "design-mixture": _design_mixture,
    "downstream": commands_downstream.downstream,
    "evaluate": commands_downstream.evaluate,
    "losses": _losses,
    "pretrain": _pretrain,
    "summarize": commands_downstream.summarize,
}
