"""What a run reads from files that may be replaced: its content is recorded, and must be the same on `--resume`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edl_jax.core.errors import UserError
from edl_jax.core.files import read_json

KEY = "inputs"  # in config.json


class Input(NamedTuple):
    """What a run reads.

    Attributes:
      shown: what messages call it.
      digest: hash of its content.
    """

    shown: str
    digest: str


def recorded(path: Path, inputs: Mapping[str, Input]) -> dict[str, str]:
    """Return name -> digest for the config.json of a run that goes on; what was recorded earlier is kept.

    Args:
      path: run directory, whose config.json records nothing where an earlier release wrote it.
      inputs: name -> what is read now; not all need to be known yet.

    Raises:
      UserError: one of them is not what the run began with.
    """
    file = path / "config.json"
    stored = read_json(file).get(KEY, {}) if file.is_file() else {}
    if not (isinstance(stored, dict) and all(isinstance(digest, str) for digest in stored.values())):
        raise UserError(f"{file} is damaged ({KEY} is no mapping of names to hashes): start again with --overwrite")
    for name, (shown, digest) in inputs.items():
        if stored.get(name, digest) != digest:
            raise UserError(
                f"cannot resume {path}: the content of {shown} is not what the run began with; put that back, or give "
                "another --out to begin with what is there now"
            )
    return {**stored, **{name: digest for name, (_, digest) in inputs.items()}}
