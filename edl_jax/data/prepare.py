"""Write a genuine TFDS directory (array_record) without TensorFlow.

TFDS's own builder classes do the work, so keys, order and files are the official ones. Three calls of
theirs are replaced while they run: the file opener in the builder's module and the PNG encoder, which
need TensorFlow, and the download manager's `download_and_extract`, which retries a dead network for
minutes. Needs the package importlib_resources, which TFDS imports here but does not declare.
"""

import contextlib
import errno
import gzip
import logging
import os
import shutil
import sys
import tarfile
import tempfile
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.data import download, registry, tfds_directory

_log = logging.getLogger("edl_jax")

_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def prepare(
    name: str,
    *,
    archive: download.Archive | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    _checksums: Mapping[str, tuple[int, str]] | None = None,
) -> Path:
    """Prepare a data set for `load`; one that is already there is left as it is.

    Args:
      name: a data set that TFDS provides: cifar10, cifar100, fashion_mnist, mnist, with or without `:VERSION`.
      archive: the published file (CIFAR: the binary tar.gz), a directory that holds it, or for the MNIST
        family the directory or the list of the four .gz files. Default: they are downloaded into
        `<data_dir>/downloads/edl_jax/<name>/` and kept there.
      data_dir: TFDS directory; default TFDS's own.
      _checksums: for tests: file name to (size, SHA-256), instead of those that TFDS registers.

    Returns:
      `<data_dir>/<name>/<version>`.

    Raises:
      UserError: if the name is unknown or needs no preparation, a file is missing or not the published
        one, the download does not answer, or what is already there is damaged.
      OSError: if the directory cannot be written, a full disk included; nothing half-written is left.
    """
    name, version = tfds_directory.split_version(registry.canonical_name(name))
    if not registry.spec(name).tfds:
        raise UserError(f"{name} comes with scikit-learn: there is nothing to prepare, use it as it is")
    root = tfds_directory.resolve(data_dir)
    if version is not None:
        _check_version(name, version)
    existing = tfds_directory.find(name, root)
    if existing is not None:
        tfds_directory.inspect(existing)
        _log.info("%s is already prepared in %s", name, existing)
        return existing

    import tensorflow_datasets as tfds

    builder_class: Any = tfds.builder_cls(name)
    sources = _sources(builder_class, _checksums)
    if archive is not None:
        files = download.local(sources, archive)
    else:
        files = download.fetch(sources, root / "downloads" / "edl_jax" / name)
    (root / name).mkdir(parents=True, exist_ok=True)
    # On the same disk as the result; no version directory, so that no reader takes it for one.
    with tempfile.TemporaryDirectory(prefix="incomplete.", dir=root / name) as scratch:
        extracted = {
            source.url: _extract(files[source.url], Path(scratch) / source.filename.removesuffix(".gz"))
            for source in sources
        }
        _build(builder_class, root, Path(scratch), extracted)
    return tfds_directory.locate(name, root)


def _check_version(name: str, version: str) -> None:
    """Raise `UserError` unless the TFDS that is installed makes that version of a set."""
    import tensorflow_datasets as tfds

    builder_class: Any = tfds.builder_cls(name)
    made = builder_class.VERSION
    if not made.match(version):
        raise UserError(
            f"tensorflow-datasets {tfds.__version__} makes version {made} of {name}, not {version}: give "
            f"{name} or {name}:{made}"
        )


def _sources(builder_class: Any, checksums: Mapping[str, tuple[int, str]] | None) -> list[download.Source]:
    """Return the files that TFDS registers for a builder."""
    sources = []
    for url, info in builder_class.url_infos.items():
        filename = url.rsplit("/", 1)[-1]
        size, sha256 = (int(info.size), info.checksum) if checksums is None else checksums[filename]
        sources.append(download.Source(url=url, filename=filename, size=size, sha256=sha256))
    return sources


def _extract(path: Path, target: Path) -> Path:
    """Unpack a .tar.gz into the directory `target` (a name ending in .tar), or a .gz into that file."""
    try:
        if target.suffix == ".tar":
            with tarfile.open(path, "r:gz") as tar:
                # The safe filter; Python 3.11.0 to 3.11.3 do not have it.
                tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
                tar.extractall(target)
        else:
            with gzip.open(path) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{path} cannot be unpacked ({error}): expected a {target.name}.gz") from error
    return target


def _build(builder_class: Any, root: Path, scratch: Path, extracted: Mapping[str, Path]) -> None:
    """Run a TFDS builder on unpacked files."""
    import tensorflow_datasets as tfds

    builder = builder_class(data_dir=os.fspath(root))
    builder._log_download_bytes = builder._log_download_done = lambda: None  # they print to stdout
    config = tfds.download.DownloadConfig(extract_dir=os.fspath(scratch))
    try:
        with _without_tensorflow(builder_class, extracted):
            builder.download_and_prepare(
                download_dir=os.fspath(scratch), download_config=config, file_format="array_record"
            )
    except RuntimeError as error:
        raise _as_os_error(error) from error


@contextlib.contextmanager
def _without_tensorflow(builder_class: Any, extracted: Mapping[str, Path]) -> Iterator[None]:
    """Replace what TFDS needs TensorFlow or the network for, and put everything back."""
    from tensorflow_datasets.core.download import download_manager
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import tqdm_utils

    def download_and_extract(manager: Any, urls: str | Mapping[str, str]) -> Any:
        manager._recorded_url_infos.update(builder_class.url_infos)  # for the download size in the info
        if isinstance(urls, str):
            return os.fspath(extracted[urls])
        return {key: os.fspath(extracted[url]) for key, url in urls.items()}

    gfile = types.SimpleNamespace(GFile=open)
    tensorflow = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile))
    with contextlib.ExitStack() as stack:
        for owner, attribute, value in (
            (sys.modules[builder_class.__module__], "tf", tensorflow),
            (image_feature._ImageEncoder, "_encode_image", lambda _, image: encode_png(image)),
            (download_manager.DownloadManager, "download_and_extract", download_and_extract),
            (tqdm_utils, "_active", sys.stderr.isatty()),
        ):
            stack.enter_context(_replaced(owner, attribute, value))
        yield


@contextlib.contextmanager
def _replaced(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    before = vars(owner)[attribute]
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, before)


def encode_png(image: np.ndarray) -> bytes:
    """Return an image as PNG.

    Args:
      image: `[H, W, C]` uint8, one channel or RGB.
    """
    import cv2

    if image.shape[-1] == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 6])  # zlib's default, as TFDS
    if not done:
        raise RuntimeError("OpenCV cannot encode PNG")
    return buffer.tobytes()


def _as_os_error(error: RuntimeError) -> Exception:
    """Return the OSError behind array_record's RuntimeError, or the error itself."""
    for code in _WRITE_ERRORS:
        if os.strerror(code) in str(error):
            return OSError(code, os.strerror(code))
    return error
