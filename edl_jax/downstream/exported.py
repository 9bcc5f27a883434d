"""A trained classifier as files that JAX alone can load: `python run.py export RUN --out DIR`."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax import export as jax_export

from edl_jax import __version__
from edl_jax.core import jax_settings, status
from edl_jax.core.errors import UserError, local_path, require
from edl_jax.core.files import write_atomic, write_json
from edl_jax.downstream import load_exported
from edl_jax.downstream.classifier import Classifier, load_classifier

PLATFORMS = ("cpu", "cuda", "tpu")
_FILES = ("README.md", "labels.json", "load.py", "model.json", "model.stablehlo", "weights.safetensors")
_SEPARATOR = "/"
# Largest difference of logits, relative to the largest of them, that may be rounding: two programs compute them.
_ROUNDING = {"float32": 1e-4, "bfloat16": 0.1}

_README = """# {arch} trained on {dataset}

Epoch {epoch} of training with the loss {loss}, {num_classes} classes, exported by edl_jax {version} with JAX {jax}.

```python
import jax
from load import load  # load.py needs JAX and nothing else

logits, weights, labels = load()
scores = jax.jit(logits)(weights, images)  # images {shape} uint8
print([labels[i] for i in scores.argmax(-1)])
```

| file | content |
| --- | --- |
| model.stablehlo | the program, a portable StableHLO artifact for {platforms}: (weights, images) -> logits float32 |
| weights.safetensors | its weights, float32 |
| labels.json | the names of the classes, in the order of the logits |
| model.json | shape of the images, batch size, platforms, origin |
| load.py | reads them |

Images are {channels}, {height} x {width} pixels, values 0 to 255: the program normalises them. Others are to be scaled
until they cover these sides, and cut from the centre. The computation is in {precision}.
"""


@jax_settings.fixed()
def export(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    batch_size: int | None = None,
    overwrite: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Write the newest checkpoint of a downstream run as a folder that needs neither this package nor Flax.

    The folder holds the program (weights, images) -> logits as StableHLO for CPU, CUDA and TPU, normalisation included,
    the weights (safetensors), the names of the classes, and load.py, which reads them with JAX alone. It is loaded and
    compared with the run's own network before it is put in its place, and it is complete or not there at all.

    Args:
      run: run directory.
      out: folder to write.
      batch_size: images of a call (None: any number).
      overwrite: replace an earlier export in `out`.
      data_dir: as for `load_classifier`.
      cache_dir: likewise.

    Returns:
      `out`, its path; `epoch` of the weights; `num_params`; and `difference`, the largest between a logit of the
      exported network and of the run's own, on random images.

    Raises:
      UserError: as `load_classifier`, `batch_size` below 1, something in `out` that may not be replaced, or an exported
        network that does not give the run's logits.
    """
    require(batch_size is None or batch_size >= 1, f"batch_size is {batch_size}, expected at least 1")
    path = local_path(out).absolute()
    _check_free(path, overwrite)
    classifier = load_classifier(run, data_dir=data_dir, cache_dir=cache_dir)
    with _replaced(path) as scratch:
        status.say("exporting")
        _write(scratch, classifier, batch_size)
        difference = _difference(scratch, classifier, batch_size or 2)
    num_params = sum(np.size(leaf) for leaf in jax.tree.leaves(classifier.variables["params"]))
    return {"out": str(path), "epoch": classifier.epoch, "num_params": num_params, "difference": difference}


def _check_free(path: Path, overwrite: bool) -> None:
    """Raise unless `path` may be written: nothing is there, or an earlier export and nothing else."""
    if not os.path.lexists(path):
        return
    require(path.is_dir() and not path.is_symlink(), f"{path} is a file, expected a folder: give another --out")
    foreign = sorted({entry.name for entry in path.iterdir()} - {*_FILES, "__pycache__"})
    require(
        not foreign,
        f"{path} holds what is no part of an exported classifier ({', '.join(foreign[:3])}): give another --out",
    )
    require(overwrite, f"{path} exists: give --overwrite to replace it, or another --out")


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `path` when the work in the context is done."""
    scratch, former = (path.with_name(f".{path.name}.{word}") for word in ("incomplete", "former"))
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
        scratch.mkdir(parents=True)
        yield scratch
        if path.exists():
            shutil.rmtree(former, ignore_errors=True)
            path.rename(former)
        try:
            scratch.rename(path)
        except BaseException:
            if former.exists():
                former.rename(path)
            raise
        shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; make room or give another --out") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(folder: Path, classifier: Classifier, batch_size: int | None) -> None:
    """Write all files of an exported classifier."""
    signature, config = classifier.signature, classifier.config
    weights = flax.traverse_util.flatten_dict(classifier.variables, sep=_SEPARATOR)
    weights = {name: np.asarray(leaf, np.float32) for name, leaf in weights.items() if np.size(leaf)}
    program = lower(classifier, weights, batch_size)
    model = {
        "image_shape": signature.image_shape,
        "batch_size": batch_size,
        "platforms": program.platforms,
        "calling_convention_version": program.calling_convention_version,
        "precision": signature.precision,
        "arch": config.arch,
        "dataset": config.dataset,
        "loss": config.loss_title,
        "epoch": classifier.epoch,
        "versions": {"edl-jax": __version__, "jax": jax.__version__},
    }
    height, width, channels = signature.image_shape
    readme = _README.format(
        **{**model, "platforms": ", ".join(PLATFORMS)},
        version=__version__,
        jax=jax.__version__,
        num_classes=len(signature.label_names),
        shape=f"[{batch_size or 'N'}, {height}, {width}, {channels}]",
        channels={1: "grey", 3: "RGB"}.get(channels, f"of {channels} channels"),
        height=height,
        width=width,
    )
    write_atomic(folder / "model.stablehlo", program.mlir_module_serialized)
    write_atomic(folder / "weights.safetensors", safetensors.numpy.save(weights))
    write_json(folder / "labels.json", signature.label_names)
    write_json(folder / "model.json", model)
    write_atomic(folder / "load.py", Path(load_exported.__file__).read_bytes())
    write_atomic(folder / "README.md", readme.encode())


def lower(classifier: Classifier, weights: Mapping[str, Any], batch_size: int | None) -> jax_export.Exported:
    """Return the program (weights, images) -> logits, lowered for all platforms; nothing is compiled.

    Args:
      classifier: gives model and normalisation.
      weights: leaves of its variables, or their shapes, by their path with slashes.
      batch_size: images of a call (None: any number).
    """

    def logits(weights: Mapping[str, jax.Array], images: jax.Array) -> jax.Array:
        return classifier.apply(flax.traverse_util.unflatten_dict(weights, sep=_SEPARATOR), images)

    shape = jax_export.symbolic_shape(",".join(map(str, [batch_size or "batch", *classifier.signature.image_shape])))
    template = jax_export.export(jax.jit(logits, keep_unused=True), platforms=PLATFORMS)
    return template(weights, jax.ShapeDtypeStruct(shape, jnp.uint8))


def _difference(folder: Path, classifier: Classifier, batch_size: int) -> float:
    """Return the largest difference between logits of an exported network and of the run's own, on random images."""
    shape = (batch_size, *classifier.signature.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    logits, weights, _ = load_exported.load(folder)
    found = np.asarray(jax.jit(logits)(weights, images))
    expected = np.asarray(classifier.compile(batch_size)(images))
    difference = float(np.max(np.abs(found - expected)))
    allowed = _ROUNDING[classifier.signature.precision] * max(1.0, float(np.max(np.abs(expected))))
    if not difference <= allowed:
        raise UserError(
            f"the exported network is not the run's: its logits differ by {difference:.2g}, expected at most "
            f"{allowed:.2g}; nothing is written"
        )
    return difference
