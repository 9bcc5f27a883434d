"""A stage as a line of text: a network, how it is trained, and how many losses go on.

    linear:steps=500
    convnet:steps=300,batch_size=64,optimizer=adam,schedule=cosine,warmup=0.1,survivors=25
    resnet8:epochs=2,train_size=20000,survivors=3

Networks of `edl_jax.search.students` are trained for `steps`, many at once; those of `edl_jax.models` for `epochs`, an
ordinary downstream run each. Of a name that both have, `epochs` chooses the second kind.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from edl_jax import data, models
from edl_jax.core.config import override
from edl_jax.core.errors import UserError, choose, require, unknown
from edl_jax.downstream import DownstreamConfig
from edl_jax.search import students
from edl_jax.search.students import StudentConfig

_STUDENT = tuple(field.name for field in dataclasses.fields(StudentConfig) if field.name != "arch")
_MODEL = (
    *("epochs", "image_size", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "clip_norm", "schedule"),
    *("warmup_epochs", "init", "ema", "precision", "loop"),
)
_AUGMENT = ("crop_flip", "rand_augment")
_OWN = ("train_size", "validation", "stop_error", "survivors")
_OPERATIONS = 2  # of RandAugment, as of students
_WORDS: Mapping[str, Any] = {"none": None, "true": True, "on": True, "false": False, "off": False}


@dataclasses.dataclass(frozen=True)
class Stage:
    """How losses are trained, and how many go on: `parse` reads one, `str` writes it.

    Attributes:
      student: how students are trained, or None.
      model: how a downstream run is made, or None: loss, seed and sizes of the parts are put in for each.
      train_size: examples of training and validation together; None for all.
      validation: share of the examples that the error is measured on.
      stop_error: error after a tenth of the steps, or 50, above which a student ends; None for that of guessing, less
        three standard errors.
      survivors: losses that go on to the next stage, or None.
    """

    student: StudentConfig | None = None
    model: DownstreamConfig | None = None
    train_size: int | None = None
    validation: float = 0.1
    stop_error: float | None = None
    survivors: int | None = None

    def __post_init__(self) -> None:
        require(
            (self.student is None) != (self.model is None), "a stage has a student or a model, expected one of both"
        )
        size, share, limit = self.train_size, self.validation, self.stop_error
        require(size is None or size >= 2, f"train_size is {size}, expected at least 2")
        require(0.0 < share < 1.0, f"validation is {share}, expected a share between 0 and 1")
        require(
            limit is None or (self.student is not None and 0.0 < limit < math.inf),
            f"stop_error is {limit}, expected a positive error, of a stage that has steps",
        )
        require(
            self.survivors is None or self.survivors >= 1,
            f"survivors is {self.survivors}, expected at least 1 loss",
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the stage of a line of text.

        Raises:
          UserError: an unknown architecture or key, a key twice, or a value that it cannot have.
        """
        head, _, rest = text.partition(":")
        source = f"stage {text!r}"
        arch = choose("architecture", head.strip(), {*students.names(), *models.names()}, models.SYNONYMS)
        values = _values(rest, source)
        is_student = arch in students.names() and not (arch in models.names() and "epochs" in values)
        known = (*_STUDENT, *_OWN) if is_student else (*_MODEL, *_AUGMENT, *_OWN)
        for key in values:
            if key not in known:
                raise unknown(f"key of {source}:", key, known)
        own = {key: value for key, value in values.items() if key in _OWN}
        own = {key: _number(value, key, source) for key, value in own.items()}
        if is_student:
            chosen = {key: value for key, value in values.items() if key in _STUDENT}
            own["student"] = override(StudentConfig(arch=arch), chosen, source=source)
        else:
            require("epochs" in values, f"{source} has no epochs: say how long to train, as in {arch}:epochs=2")
            own["model"] = _model(arch, values, source)
        try:
            return cls(**own)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error

    def __str__(self) -> str:
        shown: dict[str, Any]
        if self.student is not None:
            plain: Any = StudentConfig()
            shown = {name: getattr(self.student, name) for name in ("steps", *_STUDENT)}
        else:
            assert self.model is not None
            plain = DownstreamConfig()
            augment = {"crop_flip": self.model.augment.crop_flip, "rand_augment": self.model.augment.rand_augment[1]}
            shown = {name: getattr(self.model, name) for name in _MODEL} | augment
        usual = {**dataclasses.asdict(plain), "steps": None, "epochs": None, "crop_flip": True, "rand_augment": 0}
        shown |= {name: getattr(self, name) for name in _OWN}
        usual |= {field.name: field.default for field in dataclasses.fields(self) if field.name in _OWN}
        parts = [f"{name}={_text(value)}" for name, value in shown.items() if value != usual[name]]
        return f"{self.arch}:{','.join(parts)}"

    @property
    def arch(self) -> str:
        """Name of the network."""
        trained = self.student or self.model
        assert trained is not None
        return trained.arch

    @property
    def image_size(self) -> int | None:
        """Side in pixels that images are brought to, or None."""
        trained = self.student or self.model
        assert trained is not None
        return trained.image_size

    @property
    def length(self) -> str:
        """How long a loss is trained, in words."""
        if self.student is not None:
            return f"{self.student.steps} steps"
        assert self.model is not None
        return f"{self.model.epochs} epoch{'' if self.model.epochs == 1 else 's'}"


def _values(text: str, source: str) -> dict[str, Any]:
    """Return key -> value of `key=value,key=value`; numbers and words as what they mean."""
    values: dict[str, Any] = {}
    for item in text.split(",") if text.strip() else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        require(bool(key and equals and value), f"{source}: {item!r} is not of the form key=value, such as steps=300")
        require(key not in values, f"{source} has {key} twice, expected each key once")
        values[key] = _value(value)
    return values


def _value(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return _WORDS.get(text.lower(), text)


def _number(value: Any, key: str, source: str) -> Any:
    whole = key in ("train_size", "survivors")
    good = isinstance(value, (int,) if whole else (int, float)) and not isinstance(value, bool)
    optional = key != "validation" and value is None
    require(good or optional, f"{source}: {key} is {value!r}, expected {'a whole' if whole else 'a'} number")
    return value if whole or value is None else float(value)


def _model(arch: str, values: Mapping[str, Any], source: str) -> DownstreamConfig:
    """Return the settings of a downstream run."""
    chosen = {key: value for key, value in values.items() if key in _MODEL}
    augment = {key: value for key, value in values.items() if key in _AUGMENT}
    if "rand_augment" in augment:
        augment["rand_augment"] = (_OPERATIONS, augment["rand_augment"]) if augment["rand_augment"] else (0, 0)
    plain = DownstreamConfig(arch=arch, loss="cross_entropy")
    augmented = override(data.AugmentConfig(), augment, source=source)
    return override(dataclasses.replace(plain, augment=augmented), chosen, source=source)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).lower()
