"""How much of the machine others take while something is measured (Linux)."""

import os
import time
from pathlib import Path
from typing import NamedTuple

_STAT = Path("/proc/stat")


class Taken(NamedTuple):
    """Seconds of CPU since some start: of all processes, and of this one."""

    everyone: float
    mine: float


def taken() -> Taken | None:
    """Return what was taken until now, or None where it is not known."""
    if not _STAT.exists():
        return None
    fields = [float(field) for field in _STAT.read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    busy = sum(fields) - fields[3] - fields[4]  # neither idle nor waiting for a disk
    return Taken(busy / os.sysconf("SC_CLK_TCK"), time.process_time())


def others(before: Taken | None, seconds: float) -> float:
    """Return the cores that others kept busy in the `seconds` since `before`; 0 where it is not known."""
    now = taken()
    if before is None or now is None:
        return 0.0
    return max(now.everyone - before.everyone - (now.mine - before.mine), 0.0) / seconds
