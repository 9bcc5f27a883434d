"""A home directory for a process that has none: without HOME, under a number that is no user of the system."""

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path


def ensure() -> None:
    """Set HOME to a temporary folder where there is no home directory, which libraries below expect when imported.

    What is kept there, such as caches, lasts as long as the process; a line in the log "edl_jax" says so.
    """
    if os.environ.get("HOME") == "":
        del os.environ["HOME"]  # `~/data` would be `/data`
    try:
        Path.home()
    except RuntimeError:
        try:
            folder = tempfile.mkdtemp(prefix="edl-jax-home-")
        except OSError:
            return  # then nothing is kept, and who needs a home says so
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["HOME"] = folder
        logging.getLogger("edl_jax").warning("no home directory: caches are kept in %s until the end; set HOME", folder)
