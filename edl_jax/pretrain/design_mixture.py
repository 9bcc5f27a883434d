"""From a wanted loss to the mixture that makes evolution find it: `python run.py design-mixture --target focal`."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import yaml

from edl_jax import loss
from edl_jax.core import jax_settings
from edl_jax.core.config import parse_parameters, to_dict
from edl_jax.core.errors import UserError, command, local_path, require
from edl_jax.core.files import write_atomic
from edl_jax.plot import pretraining
from edl_jax.plot.style import draw_all
from edl_jax.synthetic import design


@dataclasses.dataclass(frozen=True)
class DesignConfig:
    """Compute the mixture of synthetic predictions whose optimum is a given loss."""

    target: str = "cross_entropy"
    """Loss to reach: a name, or the path of an artifact."""
    parameters: tuple[str, ...] = ()
    """Hyper-parameters of the target, such as gamma=2."""
    num_classes: int = 10
    """Number of classes C at which the target is read."""
    log_p_min: float = -9.0
    """Smallest ln p_t of the mixture: an unbounded loss is followed down to there."""
    beta: float = 1.0
    """beta of the ranking objective that will be used."""
    knots: int = 65
    """Quantiles of ln p_t that describe the mixture."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", loss.canonical_name(self.target))
        require(2 <= self.num_classes < 2**31, f"num_classes is {self.num_classes}, expected at least 2")
        require(3 <= self.knots <= 4096, f"knots is {self.knots}, expected a number from 3 to 4096")
        require(-80.0 <= self.log_p_min < 0.0, f"log_p_min is {self.log_p_min}, expected -80 or more, below 0")
        require(0.0 < self.beta < float("inf"), f"beta is {self.beta}, expected a positive number")


@jax_settings.fixed()
def run(config: DesignConfig, *, out: str | Path | None = None, overwrite: bool = False) -> dict[str, Any]:
    """Write a preset for `pretrain --config` whose mixture has the target as its optimum, and a figure beside it.

    Args:
      config: the target.
      out: path of the YAML preset (default `runs/designed-<target>.yaml`).
      overwrite: replace an existing file.

    Returns:
      `preset` and `figure`, paths; `r_squared` of the target against the optimum of the mixture.

    Raises:
      UserError: unknown target or hyper-parameter, a target that no mixture has as its optimum, or a file that may
        not be written.
    """
    path = local_path(out) if out is not None else Path("runs") / f"designed-{Path(config.target).stem}.yaml"
    require(path.suffix in (".yaml", ".yml"), f"--out is {path}, expected a name ending in .yaml")
    require(not path.parent.is_file(), f"{path.parent} is a file, expected a folder: give another --out")
    picture = path.with_suffix(".png")
    for file in (path, picture):
        require(overwrite or not _exists(file), f"{file} exists: give --overwrite to replace it, or another --out")
    chosen = parse_parameters(config.parameters)
    target = loss.get(config.target, **chosen)
    try:
        logits = jax.ShapeDtypeStruct((config.num_classes,), jnp.float32)
        jax.eval_shape(target, logits, jax.ShapeDtypeStruct((), jnp.int32))
    except ValueError as error:
        raise UserError(f"--target {config.target} does not fit --num-classes {config.num_classes}: {error}") from error
    mixture = design.mixture_for(
        target, config.num_classes, config.log_p_min, beta=config.beta, knots=config.knots, name=config.target
    )
    report = design.report(mixture, target, config.num_classes, beta=config.beta)
    fields = {"mixture": to_dict(mixture), "margin": 0.0, "beta": config.beta, "num_classes": config.num_classes}
    names = " ".join((config.target, *config.parameters))
    text = f"# Mixture whose optimum is {names}: {command('pretrain')} --config {path}"
    text = "".join(x if x.isprintable() else "?" for x in text)  # paths may hold the end of a line
    try:
        write_atomic(path, (f"{text}\n" + yaml.safe_dump(fields, sort_keys=False)).encode())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another --out") from error
    title = loss.title(config.target, chosen)
    draw_all({picture: lambda file: pretraining.designed(file, title, report)}, "give the command with --overwrite")
    return {"preset": str(path), "figure": str(picture), "r_squared": report.r_squared}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name too long, or a folder that may not be searched
        raise UserError(f"cannot write {path}: {error.strerror}; give another --out") from error
