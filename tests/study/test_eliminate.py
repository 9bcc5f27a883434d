"""`edl-jax eliminate`: from the command to the report, killed and resumed, and what is refused before it begins."""

import csv
import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from stage_cases import make_search

from edl_jax import data, downstream, loss
from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError
from edl_jax.core.stopping import Stop, Stopped
from edl_jax.search.tables import LOG_P
from edl_jax.study import stages
from edl_jax.study.candidates import Candidate
from edl_jax.study.eliminate import EliminateConfig, figures, finals, report, run, study
from edl_jax.study.eliminate.report import Round
from edl_jax.study.stages import Result, Stage

FORMULAS = ["-y*ln(p)", "(y-p)^2", "-0.1*y*ln(p)", "-3*y*ln(p)", "y*(1-p)", "y*ln(p)"]
CONFIG = EliminateConfig(
    count=6,
    distance=0.0,
    dataset="digits",
    stages=("mlp_small:steps=30,batch_size=32,survivors=3", "mlp_small:steps=60,batch_size=32,survivors=1"),
    baselines=("cross_entropy",),
    final="mlp:epochs=1,batch_size=32,train_size=300",
    seeds=(3, 4),
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return make_search(tmp_path_factory.mktemp("searches") / "run", FORMULAS)


def config(searched, **changes):
    return dataclasses.replace(CONFIG, runs=(str(searched),), **changes)


@pytest.fixture(scope="module")
def finished(searched, tmp_path_factory):
    """Return a finished study: its directory and result, by the command."""
    out = tmp_path_factory.mktemp("studies") / "whole"
    settings = config(searched)
    flags = ["--stages", *settings.stages, "--baselines", *settings.baselines, "--final", settings.final]
    flags += ["--count", "6", "--distance", "0", "--dataset", "digits", "--seeds", "3", "4"]
    assert cli.main(["eliminate", str(searched), *flags, "--out", str(out)]) == 0
    return out, json.loads((out / "result.json").read_text())


def test_the_command_leaves_tables_a_report_and_the_best_loss(finished):
    out, result = finished
    assert [stage["losses"] for stage in result["stages"]] == [6, 3]
    assert [len(stage["survivors"]) for stage in result["stages"]] == [3, 1]
    assert "a6" not in result["stages"][0]["survivors"]  # it goes up
    (winner,) = result["winners"]
    stored = loss.load_artifact(result["artifact"])
    assert stored.record.formula == winner["formula"]
    with (out / "stages" / "1-mlp_small.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == list("123456")
    assert [row["loss"] for row in rows if row["survives"] == "1"] == result["stages"][0]["survivors"]
    errors = [math.inf if row["error"] == "inf" else float(row["error"]) for row in rows]
    assert errors == sorted(errors)
    with (out / "finals.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["loss"], row["seed"]) for row in rows] == [
        (name, seed) for name in ("cross_entropy", winner["name"]) for seed in "34"
    ]
    for name, path in (("cross_entropy", "cross_entropy"), (winner["name"], winner["name"])):
        run = json.loads((out / "finals" / path / "seed-4" / "result.json").read_text())
        assert result["finals"][name]["test_accuracy"]["values"][1] == run["test_accuracy"]
        gap = run["train_accuracy"] - run["test_accuracy"]
        assert result["finals"][name]["accuracy_gap"]["values"][1] == pytest.approx(gap)
        assert run["train_size"] == 300
    text = (out / "report.md").read_text()
    assert all(f"figures/{name}.png" in text for name in ("finals", "phenotypes", "ranks"))
    assert f"`{winner['formula']}`" in text


class StopWhen(Stop):
    """A stop that is asked for when a check says so."""

    def __init__(self, text):
        super().__init__()
        self._text = text

    def check(self, after=""):
        if self._text in after:
            self.request()
        super().check(after)


def untimed(value):
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in ("seconds", "report", "artifact")}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def test_a_study_that_was_stopped_goes_on_to_the_same_result_and_makes_no_run_twice(
    searched, finished, tmp_path, monkeypatch
):
    made = []
    run_seeds = downstream.run_seeds

    def counted(config, *arguments, **keywords):
        made.append(config.loss)
        return run_seeds(config, *arguments, **keywords)

    monkeypatch.setattr(downstream, "run_seeds", counted)
    monkeypatch.setattr(figures, "draw", lambda *_: [])
    out, settings = tmp_path / "s", config(searched)
    for text in ("0 of 3 losses of 2-mlp_small", "1 of 2 losses of the finals"):
        stop = StopWhen(text)
        with pytest.raises(Stopped):
            run(settings, out=out, resume=out.is_dir(), stop=stop)
        assert stop.path == out
        assert not (out / "result.json").exists()
    result = run(settings, out=out, resume=True)
    assert untimed(result) == untimed(finished[1])
    assert len(made) == 2


@pytest.mark.slow  # it is what resuming a downstream command with more seeds does
def test_seeds_that_are_added_leave_what_there_is(searched, finished, monkeypatch):
    monkeypatch.setattr(figures, "draw", lambda *_: [])
    out, result = finished  # in place: the runs of the finals name the losses of this directory
    before = (out / "finals" / "cross_entropy" / "seed-3" / "result.json").stat().st_mtime_ns
    more = run(config(searched, seeds=(3, 4, 5)), out=out, resume=True)
    assert (out / "finals" / "cross_entropy" / "seed-3" / "result.json").stat().st_mtime_ns == before
    values = [found["finals"]["cross_entropy"]["test_accuracy"]["values"] for found in (result, more)]
    assert values[1][:2] == values[0]
    assert len(values[1]) == 3


def test_no_test_image_is_read_before_the_finals(searched, tmp_path, monkeypatch):
    load, test_images = data.load, []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            test_images.append(index)
            return super().__getitem__(index)

        def __array_function__(self, *arguments):
            test_images.append(arguments)
            return super().__array_function__(*arguments)

    def watched(*arguments, **keywords):
        dataset = load(*arguments, **keywords)
        return dataclasses.replace(dataset, test_images=dataset.test_images.view(Watched))

    def finale(*_):
        assert not test_images
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "load", watched)
    monkeypatch.setattr(study, "_final", finale)
    with pytest.raises(KeyboardInterrupt):
        run(config(searched), out=tmp_path / "s")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stages", "convnt:steps=3,survivors=1"], "unknown architecture 'convnt': did you mean convnet"),
        (["--stages", "linear:steps=3"], "stage 'linear:steps=3' has no survivors"),
        (["--stages", "linear:steps=3,survivors=2", "linear:steps=9,survivors=2"], "2, 2, expected descending numbers"),
        (["--stages", "linear:steps=3,survivors=9", "--count", "9"], "--count is 9 and the first stage keeps 9"),
        (
            ["--stages", "linear:steps=3,survivors=6", "--count", "9", "--distance", "0"],
            "hold 6 different losses and the first stage keeps 6",
        ),
        (
            ["--stages", "mlp:epochs=1,train_size=9999,survivors=1"],
            "survivors=1': train_size is 9999, expected",
        ),
        (["--stages", "linear:batch_size=2000,survivors=1"], "batch_size=2000,survivors=1': batch_size is 2000"),
        (["--final", "linear:steps=3"], "--final is linear:steps=3, expected a model that is trained for epochs"),
        (["--final", "mlp:epochs=1,survivors=1"], "expected no survivors"),
        (["--final", "mlp:epochs=1,train_size=9999"], "with loss cross_entropy: train_size is 9999, expected"),
        (["--baselines", "cross_entropi"], "unknown loss 'cross_entropi'"),
        (["--baselines", "ce", "cross-entropy"], "cross_entropy is given twice in baselines"),
        (["--seeds", "1", "1"], "seed 1 is given twice"),
        (["--dataset", "digts"], "unknown dataset 'digts'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(searched, tmp_path, capsys, flags, message):
    out = tmp_path / "s"
    assert cli.main(["eliminate", str(searched), "--config", "debug", *flags, "--out", str(out)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line
    assert not out.exists()


def test_what_is_no_search_is_refused(tmp_path, capsys):
    out = tmp_path / "s"
    for runs, message in (([], "no search given"), ([str(tmp_path)], "is no run directory")):
        assert cli.main(["eliminate", *runs, "--config", "debug", "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
        assert not out.exists()


def test_another_search_is_not_resumed(searched, tmp_path):
    copy = shutil.copytree(searched, tmp_path / "run")
    settings = config(copy, stages=("mlp_small:steps=1,batch_size=8,survivors=1",))
    with pytest.raises(Stopped):
        run(settings, out=tmp_path / "s", stop=StopWhen("0 of 6 losses"))
    loss.save(loss.FormulaArtifact.from_formula("-7*y*ln(p)"), copy / "loss.safetensors")
    with pytest.raises(UserError, match="the content of the searches is not what the run began with"):
        run(settings, out=tmp_path / "s", resume=True)


def candidates(count):
    table = np.zeros((2, len(LOG_P)), np.float32)
    stored = loss.artifact_of("cross_entropy")
    return [Candidate(f"a{i}", f"formula {i}", stored, table, 0.1 * i) for i in range(1, count + 1)]


def test_ranks_are_of_the_losses_in_both_stages():
    every = candidates(5)
    first = [Result(f"a{i}", error, 1.0, 10, 0.1) for i, error in enumerate((0.5, 0.4, 0.3, 0.2, math.inf), 1)]
    second = [Result(f"a{i}", error, 1.0, 10, 0.1) for i, error in enumerate((0.3, 0.2, 0.1), 2)]
    stage = Stage.parse("linear:steps=10,survivors=3")
    rounds = [
        Round("1-linear", stage, every, stages.results.order(first), ["a4", "a3", "a2"]),
        Round("2-linear", stage, every[1:4], stages.results.order(second), ["a4"]),
    ]
    search, stage = report.ranks(rounds)
    assert (search.x_label, search.y_label, len(search.names)) == ("search", "1-linear", 5)
    assert search.spearman == pytest.approx(-0.0, abs=1e-12)  # 1 2 3 4 5 against 4 3 2 1 5
    assert (stage.x_label, stage.names) == ("1-linear", ("a4", "a3", "a2"))
    assert stage.spearman == pytest.approx(1.0)


def test_a_final_run_that_diverged_is_worst_and_leaves_no_mean():
    runs = [
        {"seed": seed, "test_accuracy": 0.7 + 0.01 * seed, "test_nll": 0.9, "train_accuracy": 0.8, "train_nll": 0.5}
        for seed in range(5)
    ]
    whole = finals.measure({"runs": runs}, range(5))
    assert whole["accuracy_gap"] == pytest.approx([0.1, 0.09, 0.08, 0.07, 0.06])
    assert whole["nll_gap"] == pytest.approx([0.4] * 5)
    broken = finals.measure({"runs": [runs[0], *runs[2:]]}, range(5))
    assert [broken[name][1] for name in finals.MEASURES] == [-math.inf, math.inf, math.inf, math.inf]
    better = {name: [value + 0.05 for value in values] for name, values in whole.items()}
    table = finals.compared({"reference": whole, "better": better, "broken": broken})
    assert "difference" not in table["reference"]["test_accuracy"]
    found = table["better"]["test_accuracy"]["difference"]
    assert (found["test"], found["difference"]) == ("paired t", pytest.approx(0.05))
    assert math.isnan(table["broken"]["test_accuracy"]["mean"])
    shown = report.summary_lines({"finals": table, "reference": "reference"})
    assert shown[2].startswith("broken: test accuracy some runs diverged")


def test_phenotypes_are_of_formulas_and_of_other_losses_alike():
    formula = loss.FormulaArtifact(loss.FormulaArtifact.from_formula("y*ln(p)").record._replace(flip=True))
    value = figures.phenotype(formula)
    np.testing.assert_allclose(value, -np.log(np.linspace(1.0 - 1e-7, 1e-7, 1000)), rtol=1e-6)
    np.testing.assert_allclose(figures.phenotype(loss.artifact_of("cross_entropy")), value, rtol=1e-4, atol=1e-6)
