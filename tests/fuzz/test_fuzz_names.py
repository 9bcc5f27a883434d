"""Names: a run path, a class, a loss may be called whatever the file system takes."""

import json
import os
import shutil
from pathlib import Path

import pytest
from fuzz_harness import FaultError, call, fuzz
from fuzz_scenarios import SMALL, image_folder, no_work, numbers_of, quick_programs
from hypothesis import strategies as st

# What means something somewhere: to a shell, to patterns, to Matplotlib, to a terminal, to parsers.
STRANGE = (
    *(
        "[a]",
        "]",
        "[",
        "*",
        "?",
        "{}",
        "{0}",
        "%s",
        "a\\b",
        "\\",
        "#",
        "a=b",
        "'",
        '"',
        "a:b",
        "a,b",
        "-x",
        "--out",
        "...",
    ),
    *("$x$ $y", "$\\frac{", "^_{", "_x", "<b>", "&amp;", "~", "~nobody", "gs:", "x.safetensors", "None", "x" * 255),
    *(" ", "\n", "\t", "\x7f", "\x1b[31m", "\ufeff", "\u202ex", "é", "e\u0301", "名前", "שם", "🙂"),
)


def _is_name(raw: bytes) -> bool:
    return 0 < len(raw) <= 255 and not {0, 47} & set(raw) and raw not in (b".", b"..")


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
names = (
    st.sampled_from(STRANGE)
    | text
    | st.tuples(st.sampled_from(STRANGE), text).map("".join)
    | st.binary(min_size=1, max_size=30).map(os.fsdecode)
).filter(lambda name: _is_name(os.fsencode(name)))


def must(arguments, what, codes=(0,)):
    """Call, and raise what it broke."""
    outcome = call(arguments)
    found = outcome.faults
    if outcome.code not in codes and not outcome.trace:
        found.append(f"exit code {outcome.code}")
    if found:
        raise FaultError(f"{what!r}: {'; '.join(found)}\n{outcome}")
    return outcome


def check_run(data: st.DataObject, root: Path) -> None:
    """Train, resume, make the result again from the checkpoint, evaluate, summarize in a folder of that name."""
    name = data.draw(names, label="name")
    relative = data.draw(st.booleans(), label="relative")
    out, train = root / name, ("downstream", *SMALL)
    given = f"--out=./{name}" if relative else f"--out={out}"
    try:
        must((*train, given), name)
        if not (out / "result.json").is_file():
            raise FaultError(f"{name!r}: exit code 0, and no result")
        numbers = numbers_of(out / "result.json")
        (out / "result.json").unlink()
        must((*train, given, "--resume"), name)
        if numbers_of(out / "result.json") != numbers:
            raise FaultError(f"{name!r}: the checkpoint has other numbers")
        must(("evaluate", out), name)
        must(("summarize", out), name)
        must(("losses", "focal", "--save", out / "loss.safetensors"), name)
        must(
            ("design-mixture", "--target", out / "loss.safetensors", "--knots", "9", "--out", out / "designed.yaml"),
            name,
        )
        with no_work():
            must(("pretrain", "--config", out / "designed.yaml", "--out", out / "pretrain"), name, codes=(2,))
            must((*train, "--loss", out / "loss.safetensors", "--out", out / "other"), name, codes=(2,))
    finally:
        shutil.rmtree(out, ignore_errors=True)


def check_classes(data: st.DataObject, root: Path) -> None:
    """Train on folders of those names, with a loss in one of such a name, and draw all figures."""
    classes = data.draw(st.lists(names.filter(lambda n: not n.startswith(".")), min_size=2, max_size=2, unique=True))
    place = data.draw(names, label="folder")
    form = data.draw(st.sampled_from(["png", "png", "svg", "pdf"]), label="format")
    try:
        images = image_folder(root / "images" / place, classes)
        stored = root / "losses" / place / "loss.safetensors"
        shutil.copytree(root / "prior", stored.parent)
        line = (
            "downstream",
            "--config",
            "debug",
            "--dataset",
            images,
            "--train-size",
            "64",
            "--epochs",
            "2",
            "--loss",
            stored,
        )
        must((*line, "--out", root / "run", "--figure-format", form), (classes, place))
        for figure in ("confusion", "curves", "reliability"):
            if not (root / "run" / "figures" / f"{figure}.{form}").is_file():
                raise FaultError(f"{classes!r}, {place!r}: no figure {figure}")
        json.loads((root / "run" / "result.json").read_text(encoding="utf-8"))
    finally:
        for part in ("images", "losses", "run"):
            shutil.rmtree(root / part, ignore_errors=True)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_run_may_be_called_anything(root):
    with quick_programs():
        fuzz(0.012, lambda data: check_run(data, root))


@pytest.mark.slow
def test_a_class_may_be_called_anything(root, monkeypatch):
    monkeypatch.setenv("EDL_JAX_CACHE_DIR", str(root / "cache"))
    (root / "prior").mkdir()
    must(("losses", "edl", "--save", root / "prior" / "loss.safetensors"), "prior")
    with quick_programs(draw=True):
        fuzz(0.008, lambda data: check_classes(data, root))
