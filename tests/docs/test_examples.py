"""The Python examples of the pages run as they stand."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def blocks(page):
    """Return (the line before it, its code) of each Python block of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"([^\n]*)\n+```python\n(.*?)```", text, flags=re.DOTALL)


# The first block of docs/losses.md is the signature, the second the data that the others share.
BLOCKS = blocks("docs/losses.md")
DATA = next(code for title, code in BLOCKS if "share this data" in title)
EXAMPLES = {title.rstrip(":"): code for title, code in BLOCKS if code != DATA}
ON_KERAS = next(title for title in EXAMPLES if title.startswith("Keras 3"))
ON_DEVICES = next(title for title in EXAMPLES if "xla_force_host_platform_device_count" in title)


def run(code, **environment):
    """Return what a fresh process prints that runs the code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_five_lines_of_the_front_page_run_as_pasted(capsys):
    ((_, code),) = blocks("README.md")
    assert len(ast.parse(code).body) == len([line for line in code.splitlines() if line]) == 5
    exec(compile(code, "README.md", "exec"), {})  # our own page; tests/test_package.py has the plain installation
    printed = capsys.readouterr().out.strip("[]\n").split()
    stated = code.splitlines()[-1].split("each: ")[1].split(", ")
    assert [f"{float(value):.2f}" for value in printed] == stated


def test_the_site_begins_with_the_same_lines():
    assert blocks("docs/index.md")[0][1] == blocks("README.md")[0][1]


def test_quickstart(capsys):
    for _, code in blocks("docs/quickstart.md"):
        exec(compile(code, "docs/quickstart.md", "exec"), {})  # our own page
    assert "cross_entropy" in capsys.readouterr().out


@pytest.mark.parametrize("title", [title for title in EXAMPLES if title not in (ON_DEVICES, ON_KERAS)])
def test_example(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(DATA + EXAMPLES[title], f"docs/losses.md, {title}", "exec"), {})  # our own page


@pytest.mark.slow
def test_example_on_eight_devices():
    code = "import jax\nassert len(jax.devices()) == 8\n" + DATA + EXAMPLES[ON_DEVICES]
    run(code, XLA_FLAGS=os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="keras is not installed")
def test_example_on_keras(tmp_path):
    """A process of its own: the backend is chosen on import, which writes settings to the home directory."""
    run(DATA + EXAMPLES[ON_KERAS], KERAS_HOME=str(tmp_path))


def test_all_the_frameworks_are_shown():
    shown = "\n".join(EXAMPLES)
    for name in ("Plain JAX", "Flax NNX", "Flax Linen", "Equinox", "Keras 3", "several devices"):
        assert name in shown
