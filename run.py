"""Run a command of edl_jax: `python run.py <command> [flags]`; `edl-jax` is the same once installed."""

import sys

from edl_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
