"""Classes of images by a trained classifier: `python run.py predict RUN IMAGE_OR_FOLDER...`."""

import contextlib
import csv
import dataclasses
import io
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from edl_jax import data
from edl_jax.core import jax_settings
from edl_jax.core.errors import UserError, command, local_path, require, unknown
from edl_jax.core.files import read_json, write_atomic
from edl_jax.data.image_files import CHANNELS
from edl_jax.downstream.classifier import Classifier, load_classifier

FORMATS = ("csv", "table")
_BATCH = 256
_BATCH_BYTES = 64 << 20
_THREADS = max(1, min(8, os.cpu_count() or 1))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most likely classes of an image.

    Attributes:
      file: that the image was read from.
      labels: names of the classes, the most likely first; none for a file that cannot be read.
      probabilities: of these classes, in [0, 1].
      error: what is wrong with a file that cannot be read.
    """

    file: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


@jax_settings.fixed()
def predict(
    run: str | os.PathLike[str],
    images: Iterable[str | os.PathLike[str]],
    *,
    top: int = 3,
    temperature: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Iterator[Prediction]:
    """Return the most likely classes of images, by the newest checkpoint of a downstream run.

    Images are brought to the network's input as those of a set are: grey or RGB as the network takes them, scaled until
    they cover its height and width, cut from the centre. They are read a batch at a time, when their predictions are
    asked for. A file that cannot be read gives a prediction with an `error`, and the others are what they are.

    Args:
      run: run directory.
      images: files and folders, as for `data.find_images`, which says their order.
      top: number of classes, or all of them where there are fewer.
      temperature: divide the logits by the temperature that `evaluate --temperature` has fitted.
      data_dir: as for `load_classifier`.
      cache_dir: likewise.

    Raises:
      UserError: as `load_classifier` and `data.find_images`, `top` below 1, no temperature, or a network that takes
        images of another number of channels than 1 or 3.
    """
    require(top >= 1, f"top is {top}, expected at least 1")
    classifier = load_classifier(run, data_dir=data_dir, cache_dir=cache_dir)
    files = data.find_images(images)
    channels = classifier.signature.image_shape[-1]
    require(channels in CHANNELS, f"the network takes images of {channels} channels, expected 1 (grey) or 3 (RGB)")
    scale = _temperature(local_path(run).absolute(), classifier) if temperature else 1.0
    size = max(1, min(_BATCH, len(files), _BATCH_BYTES // math.prod(classifier.signature.image_shape)))
    return _predictions(classifier, size, files, top, scale)


def _temperature(path: Path, classifier: Classifier) -> float:
    """Return the temperature of the evaluation of a run on its own data set."""
    file = path / "evaluation" / f"{data.file_stem(classifier.config.dataset)}.json"
    line = command(f"evaluate {path} --temperature")
    require(file.is_file(), f"no evaluation {file}, which would hold the temperature: fit one with {line}")
    fit = f"fit one with {line} --overwrite"
    try:
        record = read_json(file)
        epoch, found = record["epoch"], record.get("temperature")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error}): {fit}") from error
    if not (isinstance(found, float) and 0.0 < found < math.inf):
        raise UserError(f"{file} holds no temperature: {record.get('temperature_error') or fit}")
    require(epoch == classifier.epoch, f"the temperature in {file} is of epoch {epoch}, not {classifier.epoch}: {fit}")
    return found


def _predictions(
    classifier: Classifier,
    size: int,
    files: Sequence[Path],
    top: int,
    temperature: float,
) -> Iterator[Prediction]:
    names, shape = classifier.signature.label_names, classifier.signature.image_shape
    with jax_settings.fixed():  # not around what is yielded: the caller's settings are its own
        logits_of = classifier.compile(size)

    def read(file: Path) -> np.ndarray | str:
        try:
            return data.resize(data.read_image(file, shape[2]), shape[:2])
        except UserError as error:
            return str(error)

    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(desc="predicting", total=len(files), unit=" images", disable=None, leave=False) as bar,
    ):
        for start in range(0, len(files), size):
            chunk = files[start : start + size]
            found = list(pool.map(read, chunk))
            images = np.zeros((size, *shape), np.uint8)
            for row, image in enumerate(found):
                if not isinstance(image, str):
                    images[row] = image
            with jax_settings.fixed():
                logits = np.asarray(jax.device_get(logits_of(images)), np.float64) / temperature
            for file, image, row in zip(chunk, found, logits, strict=False):
                if isinstance(image, str):
                    yield Prediction(str(file), error=image)
                else:
                    yield _prediction(str(file), names, row, top)
            bar.update(len(chunk))


def _prediction(file: str, names: Sequence[str], logits: np.ndarray, top: int) -> Prediction:
    require(bool(np.isfinite(logits).all()), f"the network gives no finite numbers for {file}: train it again")
    order = np.argsort(-logits, kind="stable")[:top]
    probabilities = softmax(logits)[order]
    return Prediction(file, tuple(names[i] for i in order), tuple(probabilities.tolist()))


def write_predictions(
    predictions: Iterable[Prediction],
    *,
    form: str | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write predictions to stdout as they come, or to a file when all of them are there.

    Args:
      predictions: from `predict`; a file that cannot be read is a line on stderr.
      form: `table`, a line an image, or `csv`, with the columns file, rank, class and probability (None: `csv` where
        the name of `out` ends in .csv, else `table`).
      out: file to write in place of stdout.
      overwrite: replace that file.

    Raises:
      UserError: another form, a file that exists, or, when the others are written, files that could not be read.
    """
    path = None if out is None else local_path(out)
    form = form or ("csv" if path is not None and path.suffix.lower() == ".csv" else "table")
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if path is not None:
        _check_free(path, overwrite)
    errors: list[str] = []
    count = 0

    def good() -> Iterator[Prediction]:
        nonlocal count
        for prediction in predictions:
            count += 1
            if prediction.error is None:
                yield prediction
            else:
                errors.append(prediction.error)
                tqdm.write(f"error: {_printable(prediction.error)}", file=sys.stderr)

    lines = _csv(good()) if form == "csv" else _table(good())
    if path is not None:
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        with _named(path):
            write_atomic(path, content)
    else:
        for line in lines:
            tqdm.write(line, file=sys.stdout)  # a bar on the same terminal makes room for it
    require(
        not errors, f"{len(errors)} of {count} images cannot be read, as said above: replace them; the others are done"
    )


def _check_free(path: Path, overwrite: bool) -> None:
    """Raise unless a file can be written at `path`, which is known before the work rather than after it."""
    require(not path.is_dir(), f"{path} is a folder, expected a file: give another --out")
    require(overwrite or not path.exists(), f"{path} exists: give --overwrite to replace it, or another --out")
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise what the system says about writing in the context as one line about `path`."""
    try:
        yield
    except FileExistsError as error:
        raise UserError(f"{path.parent} is a file, expected a folder: give another --out") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; make room or give another --out") from error


def _csv(predictions: Iterable[Prediction]) -> Iterator[str]:
    yield "file,rank,class,probability"
    for found in predictions:
        for rank, (label, probability) in enumerate(zip(found.labels, found.probabilities, strict=True), 1):
            text = io.StringIO()
            csv.writer(text, lineterminator="").writerow([found.file, rank, label, f"{probability:.6g}"])
            yield text.getvalue()


def _table(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Yield a line for each image, in columns; the widths are known when all predictions are."""
    rows = [
        (
            _printable(found.file),
            *(f"{p:.3f} {_printable(label)}" for label, p in zip(found.labels, found.probabilities, strict=True)),
        )
        for found in predictions
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _printable(text: str) -> str:
    """Return a text of files or classes as a terminal shows it: what cannot be printed, line ends too, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
