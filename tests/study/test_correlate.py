"""`edl-jax correlate`: from the command to the report, stopped and resumed, and what it refuses."""

import contextlib
import csv
import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run
from edl_jax.loss.expression import Record, parse
from edl_jax.pretrain import PretrainConfig
from edl_jax.search.loss_tables import table_of_artifact
from edl_jax.study import stages
from edl_jax.study.correlate import collect, evolution, figures, formulas, numbers, sources, students
from edl_jax.study.correlate.sources import Source

NETWORKS = ["linear:steps=8,train_size=400", "mlp_small:steps=30,lr=0.05,train_size=400"]
FLAGS = ["--config", "debug", "--mixtures", "debug", "--losses", "cross_entropy", "gce", "mae", "brier", "y * (1 - p)"]
FLAGS += ["--random", "2", "--tasks", "1", "--pairs", "400", "--networks", NETWORKS[0]]


def command(out, *flags):
    """Run the command and return (exit code, standard output)."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = cli.main(["correlate", "--out", str(out), *map(str, flags)])
    return code, text.getvalue()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of two networks: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("correlate") / "study"
    code, out = command(directory, *FLAGS, NETWORKS[1])
    assert code == 0
    return directory, out


def numbers_of(directory):
    """Return what a study leaves, without what is measured."""
    found = json.loads((directory / "result.json").read_text())
    del found["report"]
    for network in found["networks"]:
        del network["seconds"]
    return found, (directory / "correlations.csv").read_text(), (directory / "artifacts.csv").read_text()


def test_a_study_leaves_report_tables_and_figures(study):
    directory, out = study
    drawn = {path.name for path in (directory / "figures").iterdir()}
    assert drawn == {"correlations.png", "scatter.png", "scatter-1-linear.png"}
    with (directory / "artifacts.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    known = ["cross_entropy", "gce", "mae", "brier"]
    assert list(rows) == [*(f"debug@{i}" for i in (1, 3, 6)), *known, "random-1", "random-2"]
    ratios = [float(rows[f"debug@{i}"]["fitness_ratio"]) for i in (1, 6)]
    assert ratios[0] > ratios[1] > 1.0  # an early generation is further from the optimum
    assert float(rows["debug@6"]["own_fitness_ratio"]) == pytest.approx(ratios[1])  # debug has the default's mixture
    assert rows["gce"]["own_fitness_ratio"] == ""
    assert float(rows["cross_entropy"]["r_squared_cross_entropy"]) == pytest.approx(1.0, abs=1e-6)
    assert float(rows["mae"]["ranking_accuracy"]) == 1.0
    for key in ("students_clean", "accuracy_mlp_small"):
        assert float(rows["cross_entropy"][key]) > float(rows["random-2"][key])
    result = json.loads((directory / "result.json").read_text())
    assert result["dropped"] == [{"name": "formula-5", "why": "is mae, but for its scale"}]
    assert [network["training"] for network in result["networks"]] == NETWORKS
    lines = out.splitlines()
    assert lines[0].startswith("correlate: 9 artifacts (3 evolved, 4 formula, 2 found, 1 dropped), 18 trainings")
    assert lines[1].startswith("linear, Spearman over 9 artifacts: ")
    assert lines[-1].endswith("report.md")


def test_a_study_that_was_stopped_ends_with_the_same_numbers(study, tmp_path, monkeypatch):
    """In its evolution, in its synthetic tasks, and in its networks, of which one is added later."""
    monkeypatch.setattr(figures, "draw", lambda *_: [])
    directory = tmp_path / "study"
    for module, name, after in ((evolution, "_artifact", 1), (students, "write_json", 1), (stages, "train", 0)):
        with monkeypatch.context() as patch:
            function, calls = getattr(module, name), []

            def stopped(*arguments, function=function, calls=calls, after=after, **keywords):
                if len(calls) == after:
                    raise KeyboardInterrupt
                calls.append(arguments)
                return function(*arguments, **keywords)

            patch.setattr(module, name, stopped)
            flags = ["--resume"] if directory.exists() else FLAGS
            assert command(directory, *flags)[0] == 130
    assert not (directory / "result.json").exists()
    stored = json.loads((directory / "students.json").read_text())
    assert len(stored) == 9
    assert command(directory, "--resume", "--networks", *NETWORKS)[0] == 0
    assert numbers_of(directory) == numbers_of(study[0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--networks", "resnt9v2:steps=3"], "unknown architecture 'resnt9v2': did you mean resn"),
        (["--networks", "mlp:steps=4,survivors=3"], "expected no survivors"),
        (["--networks", "linear:steps=3", "linear:steps=3"], "expected each network once"),
        (["--networks", "mlp:batch_size=5000"], "batch_size is 5000, expected"),
        (["--mixtures", "defalt"], "unknown pretrain preset 'defalt': did you mean default"),
        (["--mixtures", "debug:sevrity=margin"], "unknown key in mixture 'debug:sevrity=margin': 'sevrity'"),
        (["--mixtures", "debug:network.kind=joint,severity=margin"], "evolves a joint network, which is no function"),
        (["--generations", "5", "1"], "--generations is 5 1, expected ascending numbers"),
        (["--losses", "focl"], "unknown loss 'focl': did you mean focal"),
        (["--losses", "y * (1 - q)"], "'y * (1 - q)' is no formula: "),
        (["--losses", "nce"], "loss nce has no formula here"),
        (["--losses", "asymmetric"], "loss asymmetric has no formula here"),
        (["--losses", "p + 1 - 1"], "formula-1 (a formula) has no gradient: leave it out"),
        (["--mixtures", "debug", "--losses", "mae", "--random", "0"], "these are 4 artifacts, expected at least 8"),
        (["--seeds", "1", "1"], "seed 1 is given twice in seeds"),
        (["nowhere"], "no run at nowhere: expected the directory of a finished run of pretrain or search"),
        (["bare"], "bare is no finished run (result.json is missing)"),
        (["trained"], "trained is a downstream run, expected one of"),
        (["gone.safetensors"], "no loss artifact at gone.safetensors"),
    ],
)
def test_what_cannot_be_studied_is_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Run.open("pretrain", PretrainConfig(), out="bare").close()
    Run.open("downstream", PretrainConfig(), out="trained").close()
    assert command("out", "--config", "debug", "--dataset", "digits", *flags)[0] == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_runs_and_files_join(tmp_path):
    run = Run.open("pretrain", PretrainConfig(), out=tmp_path / "run")
    loss.save(loss.load_artifact("edl"), run.path / "loss.safetensors")
    run.finish({})
    several = Run.open("pretrain", PretrainConfig(runs=2), out=tmp_path / "several")
    (several.path / "losses").mkdir()
    for i in range(2):
        loss.save(loss.load_artifact("edl"), several.path / "losses" / f"{i}.safetensors")
    several.finish({})
    loss.save(loss.artifact_of("focal", gamma=1.0), tmp_path / "mine.safetensors")
    paths = [str(tmp_path / name) for name in ("run", "several", "mine.safetensors")]
    found = sources.of_paths(paths, 5, 10)
    assert [source.name for source in found] == ["1-run", "2-several-0", "2-several-1", "3-mine"]
    assert [source.family for source in found] == ["evolved"] * 3 + ["formula"]
    assert found[-1].stored.record.formula == "sum_c [-y*(1 - p)^1*ln(p)]"
    with pytest.raises(UserError, match="is given 2 times"):
        sources.of_paths([paths[0], f"{paths[1]}/../run"], 5, 10)


_FAST = ("focal", "label_smoothing", "poly1")


@pytest.mark.parametrize(
    "name", [name if name in _FAST else pytest.param(name, marks=pytest.mark.slow) for name in formulas.NAMES]
)
def test_a_formula_is_the_loss_of_its_name(name):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0.0, 2.0, (16, 5)).astype(np.float32), rng.integers(0, 5, 16)
    text = formulas.formula_of(name, {}, 5)
    expected = loss.get(name)(logits, labels)
    np.testing.assert_allclose(Record(parse(text)).loss()(logits, labels), expected, rtol=2e-5, atol=1e-6)


@pytest.fixture(scope="module")
def predictions():
    return numbers.draw(PretrainConfig().objective, 500, 0)


@pytest.mark.parametrize("name", ["edl_per_class", "brier"])
def test_numbers_of_a_table_are_those_of_its_loss(name, predictions):
    """Values but for a constant, gradients, and what is made of them."""
    (source,) = sources.known([name], 10)
    (table,), places = collect.tables_of([source], 10), numbers.places_of(predictions)
    log_p, labels = predictions.log_p.astype(np.float32), predictions.labels
    values, pullback = jax.vjp(lambda z: loss.get(name)(z, labels), jnp.asarray(log_p))
    (gradients,) = pullback(jnp.ones_like(values))
    found = places.losses(table)
    np.testing.assert_allclose(found - found.mean(), values - jnp.mean(values), atol=2e-4)
    np.testing.assert_allclose(places.gradients(table), gradients, atol=2e-4)
    known = numbers.measure(table, predictions, places)
    expected, _ = numbers.fitness_of(np.asarray(values, np.float64), predictions)
    assert known["fitness"] == pytest.approx(expected, abs=1e-5)
    assert known["fitness_ratio"] > 1.0
    ours, cross_entropy = (np.linalg.norm(x, axis=1).mean() for x in (gradients, np.exp(log_p) - np.eye(10)[labels]))
    assert numbers.scale_of(table, places) == pytest.approx(cross_entropy / ours, rel=1e-3)


def test_a_loss_that_is_scaled_is_stored_so(predictions):
    weighted = loss.FormulaArtifact(Record(parse("y*tanh(p)"), (1.0, 0.5, 2.0, 3.0), True))
    given = [Source("formula", "found", "", weighted), *sources.known(["edl"], 10), *sources.random(6, 3)]
    found = collect.collect(given, predictions)
    places = numbers.places_of(predictions)
    for candidate, source in zip(found.candidates, found.sources, strict=True):
        (table,) = collect.tables_of([source._replace(stored=candidate.loss)], 10)
        np.testing.assert_allclose(table, candidate.table, rtol=1e-4, atol=1e-6)
        assert numbers.scale_of(candidate.table, places) == pytest.approx(1.0, rel=1e-5)


def test_a_loss_that_falls_goes_the_wrong_way(predictions):
    (table,) = collect.tables_of(sources.known(["cross_entropy"], 10), 10)
    known = numbers.measure(-table, predictions, numbers.places_of(predictions))
    assert known["wrong_way_share"] == 1.0
    assert known["ranking_accuracy"] == 0.0
    assert known["r_squared_cross_entropy"] == 0.0
    assert [known[f"pull_{p}"] for p in ("01", "50", "99")] == pytest.approx([-1.0] * 3, rel=1e-5)


def test_a_table_of_a_network_is_that_of_its_loss():
    """With the tail, and the scale for the number of classes."""
    artifact = loss.load_artifact("edl_per_class")
    table, logits = table_of_artifact(artifact, 7), np.linspace(-9.0, 9.0, 7)[None].astype(np.float32)
    places = numbers.Places(np.asarray(jax.nn.log_softmax(logits), np.float64), np.zeros(1, np.int32))
    expected = jax.grad(lambda z: loss.get("edl_per_class")(z, jnp.zeros(1, jnp.int32)).sum())(jnp.asarray(logits))
    np.testing.assert_allclose(places.gradients(table), expected, rtol=1e-3, atol=1e-5)
