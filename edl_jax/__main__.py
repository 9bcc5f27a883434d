"""Run a command: `python -m edl_jax <command> [flags]`."""

import sys

from edl_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
