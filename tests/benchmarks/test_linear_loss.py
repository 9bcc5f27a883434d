"""The benchmark of linear layers runs, and its numbers are there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_runs_and_finds_less_memory(tmp_path):
    sizes = ["--tokens", "1024", "--width", "4", "--classes", "20000", "--chunk", "64", "--rounds", "2"]
    done = subprocess.run(
        [sys.executable, "benchmarks/linear_loss.py", *sizes, "--out", str(tmp_path / "out.json")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert len(found["time"]["ms"]["linear"]) == len(found["time"]["ms"]["plain"]) == 2
    for kind in ("temporary_mib", "peak_rss_mib"):
        assert found["memory"]["linear"][kind] < 0.5 * found["memory"]["plain"][kind]
