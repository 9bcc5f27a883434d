"""Small grids of `edl-jax compare`, and what of their results does not depend on the machine."""

import json
import re

GRID = "compare --config debug --epochs 2 --warmup-epochs 1 --train-size 128 --losses cross_entropy"
MEASURED = re.compile(r".*seconds.*|.*_per_second|peak_memory_mib")


def read(out):
    return json.loads((out / "result.json").read_text())


def numbers(result):
    """A result without what is measured."""
    cells = [{key: value for key, value in cell.items() if not MEASURED.fullmatch(key)} for cell in result["cells"]]
    return {**result, "cells": cells}
