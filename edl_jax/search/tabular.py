"""Tables of numbers to search on for losses of regression: scikit-learn's diabetes and California housing.

Of a data set 60 % train, 20 % validate and 20 % test, by seed; EvoMAL's released code means to split so, but its test
set is 40 % of the data and contains its training and validation sets, so that its results are of seen examples. Inputs
and targets are standardised by mean and standard deviation of the training part.

A search sees a `TabularSplit`, which has no test part; whoever reports the final result asks `held_out` for it.

Sources: B. Efron et al., "Least Angle Regression", Annals of Statistics 32, 2004 (442 patients, 10 features); R. Pace
and R. Barry, "Sparse Spatial Autoregressions", Statistics and Probability Letters 33, 1997 (20,640 districts, 8).
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edl_jax.core.errors import UserError, local_path, require, unknown

_TRAIN, _VALIDATION = 0.6, 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A data set.

    Attributes:
      name: of the data set.
      inputs: `[N, F]` float64, in its own units.
      targets: `[N]` float64, likewise.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray

    @property
    def digest(self) -> str:
        """Hash of inputs and targets, in their order."""
        return hashlib.sha256(self.inputs.tobytes() + self.targets.tobytes()).hexdigest()


class Scaler(NamedTuple):
    """Mean and standard deviation of a training part.

    Attributes:
      mean: `[F]` float64, of the inputs.
      std: `[F]` float64, of the inputs; 1 where one does not vary.
      target_mean: of the targets.
      target_std: of the targets: times its square, a mean squared error is in their own units.
    """

    mean: np.ndarray
    std: np.ndarray
    target_mean: float
    target_std: float


@dataclasses.dataclass(frozen=True, eq=False)
class TabularSplit:
    """Training and validation examples of a search, standardised on the training part.

    Attributes:
      name: of the data set.
      train_inputs: `[N, F]` float32.
      train_targets: `[N]` float32.
      validation_inputs: `[M, F]` float32, in random order.
      validation_targets: `[M]` float32.
    """

    name: str
    train_inputs: np.ndarray
    train_targets: np.ndarray
    validation_inputs: np.ndarray
    validation_targets: np.ndarray

    @property
    def features(self) -> int:
        """Number F of the inputs of an example."""
        return self.train_inputs.shape[1]

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of the training part."""
        return self.train_inputs, self.train_targets

    @property
    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of the validation part."""
        return self.validation_inputs, self.validation_targets


class HeldOut(NamedTuple):
    """The test part of a data set, standardised on the training part.

    Attributes:
      inputs: `[K, F]` float32.
      targets: `[K]` float32.
      scaler: of the training part.
    """

    inputs: np.ndarray
    targets: np.ndarray
    scaler: Scaler


def names() -> list[str]:
    """Return the names that `load` accepts."""
    return sorted(_TABLES)


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Table:
    """Return the data set `name`; nothing is downloaded.

    Args:
      name: diabetes, which scikit-learn contains, or california_housing.
      data_dir: folder of the file that scikit-learn downloaded; None for scikit-learn's own.

    Raises:
      UserError: an unknown name, or a file that is not there.
    """
    if name not in _TABLES:
        raise unknown("table", name, names())
    inputs, targets = _TABLES[name](None if data_dir is None else local_path(data_dir))
    return Table(name, np.asarray(inputs, np.float64), np.asarray(targets, np.float64))


def split(dataset: Table, seed: int) -> TabularSplit:
    """Return what a search sees of a data set: its training and validation parts by `seed`.

    Raises:
      UserError: a negative seed, or fewer than 5 examples, which leave a part without one.
    """
    train, validation, _ = _parts(dataset, seed)
    scaler = _scaler(dataset, train)
    return TabularSplit(dataset.name, *_scaled(dataset, train, scaler), *_scaled(dataset, validation, scaler))


def held_out(dataset: Table, seed: int) -> HeldOut:
    """Return what a search does not see of a data set: its test part by the `seed` of the split.

    Raises:
      UserError: as `split`.
    """
    train, _, test = _parts(dataset, seed)
    scaler = _scaler(dataset, train)
    return HeldOut(*_scaled(dataset, test, scaler), scaler)


def _parts(dataset: Table, seed: int) -> tuple[np.ndarray, ...]:
    """Return the rows of the three parts."""
    count = len(dataset.targets)
    require(seed >= 0, f"seed is {seed}, expected at least 0")
    require(count >= 5, f"{dataset.name} has {count} examples, expected at least 5 for three parts")
    order = np.random.default_rng([seed, 2]).permutation(count)
    train = round(_TRAIN * count)
    return tuple(np.split(order, [train, train + round(_VALIDATION * count)]))


def _scaler(dataset: Table, train: np.ndarray) -> Scaler:
    inputs, targets = dataset.inputs[train], dataset.targets[train]
    std, target_std = (np.where((s := x.std(axis=0)) > 0.0, s, 1.0) for x in (inputs, targets))
    return Scaler(inputs.mean(axis=0), std, float(targets.mean()), float(target_std))


def _scaled(dataset: Table, rows: np.ndarray, scaler: Scaler) -> tuple[np.ndarray, np.ndarray]:
    inputs = (dataset.inputs[rows] - scaler.mean) / scaler.std
    targets = (dataset.targets[rows] - scaler.target_mean) / scaler.target_std
    return inputs.astype(np.float32), targets.astype(np.float32)


def _diabetes(data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    # It takes over a second to import.
    from sklearn.datasets import load_diabetes

    return load_diabetes(return_X_y=True)


def _california_housing(data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import fetch_california_housing

    try:
        if data_dir is not None and not data_dir.is_dir():  # scikit-learn would make it
            raise FileNotFoundError
        return fetch_california_housing(data_home=data_dir, download_if_missing=False, return_X_y=True)
    except OSError as error:
        where = "scikit-learn's folder" if data_dir is None else data_dir
        raise UserError(
            f"california_housing is not in {where}, and is not downloaded here: run python -c 'from "
            "sklearn.datasets import fetch_california_housing as f; f()' where there is a network, and give the folder "
            "of its file as data_dir"
        ) from error


_TABLES: dict[str, Callable[[Path | None], tuple[np.ndarray, np.ndarray]]] = {
    "california_housing": _california_housing,
    "diabetes": _diabetes,
}
