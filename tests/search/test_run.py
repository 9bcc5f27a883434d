"""Searches from the command to the artifact, on the digits; a network of 64 and 64 units trains in milliseconds."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edl_jax import data, loss, search
from edl_jax.cli.main import main
from edl_jax.core.config import load_preset
from edl_jax.core.errors import UserError
from edl_jax.core.stopping import Stop, Stopped
from edl_jax.plot import nlfs as nlfs_plot
from edl_jax.search import result as conclusion, seeds as seeds_room
from edl_jax.search.config import SearchConfig
from edl_jax.search.loss_tables import table_of_loss

METHODS = ("evomal", "nlfs", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gp_lfl", "taylorglo", "ml3")))
MEASURED = {"seconds", "artifact"}


class Unreadable:
    """Test images that no one may read."""

    def __getattr__(self, name):
        raise AssertionError(f"a search has read {name} of the test set")


def config(**changes):
    preset = load_preset("search", "debug", SearchConfig())
    few = dataclasses.replace(preset.nlfs, iterations=8)
    return dataclasses.replace(preset, nlfs=few, **changes)


@pytest.fixture(scope="module")
def digits():
    """Return the digits without their test part."""
    return dataclasses.replace(data.load("digits"), test_images=Unreadable(), test_labels=Unreadable())


@pytest.fixture(scope="module")
def found(digits, tmp_path_factory):
    """Return a function: method -> (run directory, result)."""
    root = tmp_path_factory.mktemp("searches")

    @functools.cache
    def run(name):
        return root / name, search.run(config(method=name), out=root / name, dataset=digits)

    return run


def test_the_last_rung_of_a_race_is_the_number_of_steps():
    settings = SearchConfig()
    assert settings.rungs.rungs == (25, 50, 150, 500)
    assert dataclasses.replace(settings, steps=1000).rungs.rungs == (25, 50, 150, 1000)
    few = dataclasses.replace(settings, steps=100).rungs
    assert (few.rungs, few.kept) == ((25, 50, 100), settings.racing.kept[:2])
    assert dataclasses.replace(settings, race=False).rungs.rungs == (500,)


def rows_of(path):
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]


def plain(result):
    """Return a result without what is measured anew and where it lies."""
    if isinstance(result, dict):
        return {name: plain(value) for name, value in result.items() if name not in MEASURED}
    return [plain(value) for value in result] if isinstance(result, list) else result


@pytest.mark.parametrize("method", METHODS)
def test_a_search_leaves_a_loss_that_trains(found, method):
    path, result = found(method)
    assert json.loads((path / "result.json").read_text())["fitness"] == result["fitness"] < 0.95
    function = loss.load(path / "loss.safetensors")
    table = table_of_loss(function)
    assert np.isfinite(table).all()
    rows = rows_of(path)
    assert [row["generation"] for row in rows] == [*range(1, len(rows) + 1)]
    best = [row["best"] for row in rows if row["best"] is not None]
    assert best == sorted(best, reverse=True)
    assert best[-1] == result["fitness"] == result["winners"][0]["fitness"]
    for row in rows:
        assert row["evaluated"] == row["rejected"] + row["trained"]
    assert (path / "report.md").exists()


class StopAfter(Stop):
    """A stop that is asked for once a generation is done."""

    def __init__(self, generation):
        super().__init__()
        self._generation = generation

    def check(self, after=""):
        if after.startswith(f"generation {self._generation} "):
            self.request()
        super().check(after)


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no figures: those of the whole searches are drawn."""
    monkeypatch.setattr(conclusion.plot, "draw", lambda *_: [])
    monkeypatch.setattr(nlfs_plot, "draw", lambda *_: [])


# The states of the others are written and read in their own tests, such as test_gp.py.
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "method", ["nlfs", *(pytest.param(name, marks=pytest.mark.slow) for name in ("evomal", "taylorglo"))]
)
def test_a_stopped_search_goes_on_to_the_same_result(found, digits, tmp_path, method):
    path, result = found(method)
    with pytest.raises(Stopped):
        search.run(config(method=method), out=tmp_path / "s", dataset=digits, stop=StopAfter(2))
    assert len(rows_of(tmp_path / "s")) == 2
    again = search.run(config(method=method), out=tmp_path / "s", resume=True, dataset=digits)
    assert plain(again) == plain(result)
    assert rows_of(tmp_path / "s") == rows_of(path)
    if method == "nlfs":
        assert (tmp_path / "s" / "history.jsonl").read_bytes() == (path / "history.jsonl").read_bytes()


def test_a_generation_of_rejects_is_no_end_but_a_search_of_rejects_is(digits, tmp_path):
    base = config(method="gp_lfl")
    hopeless = dataclasses.replace(base, rejection=dataclasses.replace(base.rejection, threshold=1.0))
    with pytest.raises(UserError, match="found no loss that a student could be trained with in 3 generations"):
        search.run(hopeless, out=tmp_path / "s", dataset=digits)
    rows = rows_of(tmp_path / "s")
    assert [row["best"] for row in rows] == [None] * 3
    assert all(row["trained"] == 0 for row in rows)


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_keep_what_is_finished_and_tell_the_best(digits, tmp_path, monkeypatch, found):
    """The first search is one of its own, moved to where it would have been made."""
    monkeypatch.setattr(data, "load", lambda *_, **__: digits)
    out, run, seeds = tmp_path / "s", seeds_room.run, []

    def counted(settings, **keywords):
        seeds.append(settings.seed)
        if settings.seed == 0:
            shutil.copytree(found("evomal")[0], keywords["out"])
            return json.loads((keywords["out"] / "result.json").read_text())
        return run(settings, **keywords)

    monkeypatch.setattr(seeds_room, "run", counted)
    settings = config(method="evomal")
    search.run_seeds(settings, [0], out=out)
    both = search.run_seeds(settings, [0, 1], out=out, resume=True)
    assert seeds == [0, 1]
    assert plain(both["runs"][0]) == {"seed": 0, **plain(found("evomal")[1])}
    assert both["mean"]["fitness"] == pytest.approx(np.mean([run["fitness"] for run in both["runs"]]))
    best = min(both["runs"], key=lambda run: run["fitness"])
    assert both["artifact"] == best["artifact"]


def test_a_regression_leaves_a_loss_of_predictions_that_no_classifier_takes(tmp_path, capsys):
    base = config(method="gp_lfl", dataset="diabetes", start=("square(sub(y, p))",))
    settings = dataclasses.replace(
        base,
        gp=dataclasses.replace(base.gp, generations=1),
        rejection=dataclasses.replace(base.rejection, examples=50),
    )
    result = search.run(settings, out=tmp_path / "s")
    assert 0.2 < result["fitness"] < 1.0  # standardised: predicting the mean gives about 1
    assert "group" not in result
    function = loss.load_regression(tmp_path / "s")
    record = loss.load_artifact(tmp_path / "s/loss.safetensors").record
    predictions, targets = np.float32([-0.5, 0.3, 2.0]), np.float32([1.0, 0.3, -1.0])
    expected = [evaluated(record.expression, y, f) for y, f in zip(targets, predictions, strict=True)]
    np.testing.assert_allclose(function(predictions, targets), expected, rtol=1e-5)
    capsys.readouterr()
    assert main(["downstream", "--config", "debug", "--loss", str(tmp_path / "s"), "--out", str(tmp_path / "d")]) == 2
    assert "is a loss of regression, of predictions and targets" in capsys.readouterr().err
    with pytest.raises(UserError, match="is a loss of classification"):
        loss.load_regression(Path(loss.__file__).parent / "artifacts/priors/edl.safetensors")


def evaluated(tree, y, f):
    """Return the value of an unweighted tree by its text, as Python evaluates it."""
    names = {
        "abs": abs, "sqrt_clamp": lambda a: max(abs(a), 1e-7) ** 0.5, "log_clamp": lambda a: np.log(max(abs(a), 1e-7)),
        "aq": lambda a, b: a / np.sqrt(1 + b * b), "sign": np.sign, "tanh": np.tanh, "max": max, "min": min,
    }  # fmt: skip
    return eval(str(tree).replace("^", "**"), {"__builtins__": {}}, {**names, "y": float(y), "p": float(f)})  # noqa: S307


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "evolve"], "unknown method 'evolve'"),
        (["--arch", "resnet9v2", "--local-search", "linearised"], "choose --local-search exact"),
        (["--method", "gp_lfl", "--local-search", "exact"], "--local-search is exact, expected none for gp_lfl"),
        (["--gp.operators", "add", "sin"], "unknown primitive 'sin'"),
        (["--start", "square(" * 11 + "sub(y, p)" + ")" * 11], "has height 12, expected at most 10"),
        (["--start", "sin(sub(y, p))"], "sin"),
        (["--dataset", "diabetes", "--arch", "lenet5"], "choose mlp or mlp_small"),
        (["--gp.max-height", "40"], "min_init_height, max_init_height and max_height are 2, 4 and 40"),
        (["--train-size", "50"], "--batch-size is 128, expected 1 to the 45 examples"),
        (["--steps", "0"], "steps is 0, expected at least 1"),
        (["--optimizer", "adam"], "--local-search is auto, expected none with optimizer adam"),
        (["--method", "ml3", "--rand-augment", "5"], "--local-search is auto, expected none with --rand-augment 5"),
        (["--local-search", "none", "--arch", "linear", "--rand-augment", "5"], "expected 0 for linear"),
        (["--local-search", "none", "--dropout"], "dropout is on, expected off for mlp_small, which has none"),
        (["--warmup", "1"], "--warmup is 1.0, expected a share of the steps"),
        (["--dataset", "diabetes", "--arch", "mlp", "--image-size", "9"], "expected none for a table"),
        (["--racing.rungs", "20", "10"], "expected ascending numbers of steps"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, flags, message):
    out = tmp_path / "s"
    assert main(["search", "--config", "debug", "--out", str(out), *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line
    assert not out.exists()
