"""The examples of docs/losses.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent.parent / "docs" / "losses.md").read_text(encoding="utf-8")
# Each as (the line before it, its code); the first is the signature, the second the data that all share.
BLOCKS = re.findall(r"([^\n]*)\n+```python\n(.*?)```", PAGE, flags=re.DOTALL)
DATA = next(code for title, code in BLOCKS if "share this data" in title)
EXAMPLES = {title.rstrip(":"): code for title, code in BLOCKS if code != DATA}
ON_DEVICES = next(title for title in EXAMPLES if "xla_force_host_platform_device_count" in title)


@pytest.mark.parametrize("title", [title for title in EXAMPLES if title != ON_DEVICES])
def test_example(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(DATA + EXAMPLES[title], f"docs/losses.md, {title}", "exec"), {})  # our own page


def test_example_on_eight_devices():
    code = "import jax\nassert len(jax.devices()) == 8\n" + DATA + EXAMPLES[ON_DEVICES]
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_all_the_frameworks_are_shown():
    shown = "\n".join(EXAMPLES)
    for name in ("Plain JAX", "Flax NNX", "Flax Linen", "Equinox", "several devices"):
        assert name in shown
