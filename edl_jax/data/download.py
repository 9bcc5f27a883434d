"""Source files of the data sets: found locally or downloaded, and always checked against a known digest."""

import dataclasses
import hashlib
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edl_jax.core.errors import UserError, local_path

if TYPE_CHECKING:
    import requests

ANSWER_SECONDS = 15.0  # until the headers are there, name lookup included
CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # between two blocks of data
_BLOCK = 1 << 20

Archive = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclasses.dataclass(frozen=True)
class Source:
    """One file that a data set is made from.

    Attributes:
      url: where it is published.
      filename: its name there.
      size: in bytes.
      sha256: hexadecimal digest.
    """

    url: str
    filename: str
    size: int
    sha256: str


def local(sources: Sequence[Source], archive: Archive) -> dict[str, Path]:
    """Return the path of every source among the files given by the user, checked.

    Args:
      sources: the files wanted.
      archive: the one file wanted (under any name), a directory that holds the files, or a list of files.

    Returns:
      URL to path.

    Raises:
      UserError: if a file is missing or its digest is wrong.
    """
    given = [archive] if isinstance(archive, (str, os.PathLike)) else list(archive)
    files = [local_path(path) for path in given]
    for path in files:
        if not path.exists():
            raise UserError(f"archive {path} does not exist: expected {_listing(sources)}")
    if len(sources) == len(files) == 1 and files[0].is_file():
        found = {sources[0].url: files[0]}
    else:
        by_name = {file.name: file for path in files for file in (path.iterdir() if path.is_dir() else [path])}
        found = {source.url: by_name[source.filename] for source in sources if source.filename in by_name}
    missing = [source for source in sources if source.url not in found]
    if missing:
        places = ", ".join(str(path) for path in files)
        raise UserError(f"archive {places} lacks {_listing(missing)}: give the directory or all of the files")
    for source in sources:
        verify(found[source.url], source)
    return found


def fetch(sources: Sequence[Source], directory: Path) -> dict[str, Path]:
    """Return the path of every source in `directory`, downloading those that are not there yet.

    Args:
      sources: the files wanted.
      directory: where they are kept; made if needed.

    Returns:
      URL to path.

    Raises:
      UserError: if a server does not answer in time or sends something else.
      OSError: if a file cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return {source.url: _fetch_one(source, directory) for source in sources}


def verify(path: Path, source: Source, origin: str | None = None) -> None:
    """Check the size and the SHA-256 of a file.

    Raises:
      UserError: if it is not the published one; names the file, what was expected and what was found.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (size, digest) != (source.size, source.sha256):
        raise UserError(
            f"{origin or path} is not the published {source.filename}: expected sha256 {source.sha256} "
            f"({source.size} bytes), got {digest} ({size} bytes); nothing was written, get the file again"
        )


def _fetch_one(source: Source, directory: Path) -> Path:
    import requests
    import tqdm

    target = directory / source.filename
    if target.is_file():
        try:
            verify(target, source)
            return target
        except UserError:
            target.unlink()  # our own earlier download, damaged since: get it again
    handle, name = tempfile.mkstemp(prefix=".incomplete-", dir=directory)
    temporary = Path(name)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            _open(source.url) as response,
            tqdm.tqdm(
                total=source.size,
                desc=source.filename,
                unit="B",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
            ) as bar,
        ):
            blocks = response.iter_content(_BLOCK)
            while True:
                try:
                    block = next(blocks, b"")
                except requests.RequestException as error:
                    raise _unreachable(source.url, _reason(error)) from error
                if not block:
                    break
                file.write(block)
                bar.update(len(block))
        verify(temporary, source, origin=source.url)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _open(url: str) -> "requests.Response":
    """Start the download of `url`, giving up after `ANSWER_SECONDS`.

    The request runs in a thread of its own because nothing else bounds the time of a name lookup.
    """
    import requests

    answers: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            response = requests.get(
                url,
                stream=True,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                headers={"Accept-Encoding": "identity"},
            )
            response.raise_for_status()
            answers.put(response)
        except Exception as error:  # handed to the thread that waits
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise _unreachable(url, f"no answer within {ANSWER_SECONDS:.0f} s") from None
    if isinstance(answer, Exception):
        raise _unreachable(url, _reason(answer)) from answer
    return answer


def _unreachable(url: str, reason: str) -> UserError:
    return UserError(f"cannot download {url} ({reason}): get the file in another way and pass it with --archive")


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def _listing(sources: Sequence[Source]) -> str:
    return ", ".join(source.filename for source in sources)
