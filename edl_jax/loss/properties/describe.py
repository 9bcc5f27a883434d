"""What a loss is and does, for people: formula, defaults, source, computed properties."""

import dataclasses
import inspect
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from edl_jax.core.errors import UserError
from edl_jax.loss import registry
from edl_jax.loss.artifacts.facts import network_formula, origin
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact, learned_loss
from edl_jax.loss.artifacts.named import NamedArtifact
from edl_jax.loss.contract import Loss
from edl_jax.loss.function import LossFunction
from edl_jax.loss.properties.compute import GAPS, Properties, properties
from edl_jax.loss.zoo.bind import hyper_parameters_of, num_classes_of
from edl_jax.loss.zoo.catalogue import ZOO


@dataclasses.dataclass(frozen=True)
class Description:
    """A loss in words and numbers; `str()` gives the page that `run.py losses NAME` prints.

    Attributes:
      name: the name or path that `get` takes, or the function's own name.
      formula: value for integer labels; p = softmax(logits), t the true class, C the number of classes.
      parameters: hyper-parameters, name -> the value used.
      source: where it comes from.
      properties: computed from the loss.
    """

    name: str
    formula: str
    parameters: Mapping[str, Any]
    source: str
    properties: Properties

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "loss",
        "least at p_t",
        "monotone",
        "bounded",
        "gradient, p_t→0",
        "gradient, p_t→1",
        "symmetric",
        "calibrated",
        "proper",
    )
    """Headings of `row`."""

    def __str__(self) -> str:
        p = self.properties
        lines = {
            "formula": self.formula,
            "parameters": ", ".join(f"{name} = {value}" for name, value in self.parameters.items()) or "none",
            "source": self.source,
            "least at": f"{_place(p.minimum)}, the wrong classes equal",
            "monotone": "yes: it nowhere rises with p_t" if p.monotone else "no: it rises with p_t somewhere",
            "p_t -> 0": f"{'bounded' if p.bounded else 'unbounded'}; gradient {_numbers(p.gradient_wrong)} of "
            f"cross-entropy's at gaps {_numbers(GAPS)}",
            "p_t -> 1": f"gradient {_numbers(p.gradient_right)} of cross-entropy's at gaps 10, 20",
            "symmetric": "yes: uniform label noise moves no minimum" if p.symmetric else "no",
            "calibrated": _by_size(p.calibrated),
            "proper": "yes: least in expectation at the true probabilities" if p.proper else "no",
        }
        return "\n".join([self.name, *(f"  {label:<12}{text}" for label, text in lines.items())])

    def row(self) -> tuple[str, ...]:
        """Return the properties under the headings `COLUMNS`."""
        p = self.properties
        return (
            self.name,
            _place(p.minimum, short=True),
            _yes(p.monotone),
            _yes(p.bounded),
            _numbers(p.gradient_wrong),
            _numbers(p.gradient_right),
            _yes(p.symmetric),
            _by_size(p.calibrated),
            _yes(p.proper),
        )


def describe(
    loss: str | os.PathLike[str] | Loss | Artifact | FormulaArtifact | NamedArtifact, **hyper_parameters: Any
) -> Description:
    """Describe a loss; the properties are computed from it, in a few seconds.

    Args:
      loss: a name or path that `get` takes, an artifact, or any function that keeps the contract of `Loss`.
      **hyper_parameters: as `get` takes them.

    Raises:
      UserError: as `get`; hyper-parameters beside an artifact or a function.
    """
    if isinstance(loss, (str, os.PathLike)):
        name = registry.canonical_name(os.fspath(loss))
        function = registry.get(name, **hyper_parameters)
        if name not in ZOO:
            return _of_artifact(name, registry.load_artifact(name), function)
        formula, source = summary(name)
        parameters = hyper_parameters_of(name) | hyper_parameters
        sizes = _sizes(num_classes_of(name, parameters))
        return Description(name, formula, parameters, source, properties(function, sizes))
    if hyper_parameters:
        raise UserError(f"a function or artifact cannot be given {', '.join(hyper_parameters)} here: bind it first")
    if isinstance(loss, FormulaArtifact):
        return _of_artifact("formula", loss, loss.loss())
    if isinstance(loss, NamedArtifact):
        return _of_artifact("artifact", loss, loss.loss())
    if isinstance(loss, Artifact):
        return _of_artifact("artifact", loss, learned_loss(loss))
    if isinstance(loss, LossFunction):
        only = getattr(loss.rule, "num_classes", None)
        found = properties(loss, (2, 3, 10) if only is None else (only,))
        return Description(loss.name, loss.formula, loss.parameters, loss.source, found)
    line = (inspect.getdoc(loss) or "no docstring").splitlines()[0]
    return Description(getattr(loss, "__name__", "loss"), line, {}, "a function", properties(loss))


def summary(name: str | os.PathLike[str]) -> tuple[str, str]:
    """Return (formula, source) of a name or path that `get` takes, without computing anything.

    Raises:
      UserError: as `get`.
    """
    name = registry.canonical_name(os.fspath(name))
    return (ZOO[name].formula, ZOO[name].source) if name in ZOO else _facts(registry.load_artifact(name))


def _of_artifact(name: str, artifact: Artifact | FormulaArtifact | NamedArtifact, function: Loss) -> Description:
    only = artifact.num_classes if isinstance(artifact, Artifact) else None
    formula, source = _facts(artifact)
    parameters: dict[str, Any] = {}
    if isinstance(artifact, NamedArtifact):
        parameters = hyper_parameters_of(artifact.name) | dict(artifact.parameters)
        only = num_classes_of(artifact.name, parameters)
    return Description(name, formula, parameters, source, properties(function, _sizes(only)))


def _sizes(only: int | None) -> tuple[int, ...]:
    """Return the numbers of classes to compute properties for, of a loss for one number alone or for any."""
    return (2, 3, 10) if only is None else (only,)


def _facts(artifact: Artifact | FormulaArtifact | NamedArtifact) -> tuple[str, str]:
    """Return (formula, source)."""
    if isinstance(artifact, FormulaArtifact):
        return artifact.record.formula, "a formula"
    if isinstance(artifact, NamedArtifact):
        return f"{ZOO[artifact.name].formula} ({artifact.name})", ZOO[artifact.name].source
    return network_formula(artifact.network), origin(artifact.network, artifact.metadata)


def _place(minimum: tuple[float, float], short: bool = False) -> str:
    low, high = minimum
    if low > 0.95:
        return "→ 1" if short else "p_t -> 1"
    if high - low > 0.01:
        return f"≥ {low:.3g}" if short else f"every p_t from {low:.3g}"
    return f"{0.5 * (low + high):.3f}" if short else f"p_t = {0.5 * (low + high):.3f}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(_number(x) for x in values)


def _number(x: float) -> str:
    """Return three digits, one of a number below a thousandth."""
    if abs(x) < 1e-30:
        return "0"
    return re.sub(r"e\+?(-?)0*", r"e\1", f"{x:.3g}" if abs(x) >= 1e-3 else f"{x:.0e}")


def _by_size(held: Mapping[int, bool]) -> str:
    if len(set(held.values())) == 1:
        return _yes(next(iter(held.values())))
    return f"for C = {', '.join(str(size) for size, value in held.items() if value)} only"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
