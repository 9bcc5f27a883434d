"""`edl-jax surrogate-study`: from the command to the report, stopped and resumed, and what it refuses."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError
from edl_jax.search import nlfs
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.tables import signatures
from edl_jax.study import stages
from edl_jax.study.stages.networks import names_of, to_the_end
from edl_jax.study.surrogates import SurrogateConfig, figures, sample

# More losses than are trained at once: the larger network has two blocks of them.
FLAGS = ["--dataset", "digits", "--candidates", "18"]
SURROGATES = ["linear:steps=8,train_size=400", "mlp_small:steps=30,lr=0.05,train_size=400"]


def command(out, *flags):
    """Run the command and return (exit code, standard output)."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = cli.main(["surrogate-study", "--out", str(out), *map(str, flags)])
    return code, text.getvalue()


def numbers(directory):
    """Return what a study leaves, without what is measured."""
    found = json.loads((directory / "result.json").read_text())
    del found["report"]
    for network in found["networks"]:
        del network["seconds"]
    return found, (directory / "errors.csv").read_text(), (directory / "agreement.csv").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study with a repetition: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("surrogates") / "study"
    code, out = command(directory, *FLAGS, "--surrogates", *SURROGATES, "--repeat")
    assert code == 0
    return directory, out


def test_a_study_leaves_report_tables_and_figures(study):
    directory, out = study
    assert {path.name for path in (directory / "figures").iterdir()} == {"ranks.png", "cost.png"}
    with (directory / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == [f"{i:02d}" for i in range(1, 19)]
    columns = ["linear", "mlp_small", "linear, other seed", "mlp_small, other seed"]
    errors = np.array([[float(row[name]) for name in columns] for row in rows])
    assert np.all((errors > 0.0) & ((errors <= 1.0) | np.isinf(errors)))
    assert len({tuple(column) for column in errors.T}) == 4
    result = json.loads((directory / "result.json").read_text())
    assert [network["training"] for network in result["networks"]] == SURROGATES
    first, last = out.splitlines()
    assert first.startswith("linear for mlp_small: Spearman ")
    assert first.count("over 18 losses") == 1
    assert last.endswith("report.md")


def test_a_study_that_was_stopped_ends_with_the_same_numbers(study, tmp_path, monkeypatch):
    """First without the repetition, stopped in its third of three blocks; then with it."""
    train, begun = stages.train, []

    def stopped(*arguments, **keywords):
        begun.append(keywords["directory"].name)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **keywords)

    monkeypatch.setattr(stages, "train", stopped)
    monkeypatch.setattr(figures, "draw", lambda *_: [])
    directory = tmp_path / "study"
    code, _ = command(directory, *FLAGS, "--surrogates", *SURROGATES)
    assert code == 130
    assert not (directory / "result.json").exists()
    shutil.rmtree(directory / "stages" / begun[1])  # and one of them as if never trained
    assert command(directory, "--resume", "--repeat")[0] == 0
    assert numbers(directory) == numbers(study[0])


def test_other_candidates_are_not_mixed_with_those_of_a_study(study, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(study[0], tmp_path / "copy")
    draw = sample.draw
    monkeypatch.setattr(sample, "draw", lambda runs, count, seed: draw(runs, count, seed + 1))
    assert command(copy, "--resume")[0] == 2
    assert "the content of the candidates is not what the run began with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--surrogates", "linear:steps=3", "resnt9v2:steps=3"], "unknown architecture 'resnt9v2': did you mean resn"),
        (["--surrogates", "linear:steps=3"], "--surrogates is linear:steps=3, expected at least two networks"),
        (
            ["--surrogates", "mlp:steps=3", "MLP:steps=3"],
            "--surrogates is mlp:steps=3 mlp:steps=3, expected each network",
        ),
        (["--surrogates", "mlp:steps=3", "mlp:steps=4,survivors=3"], "expected no survivors"),
        (["--surrogates", "mlp:steps=3", "mlp:stps=4"], "unknown key of stage 'mlp:stps=4': 'stps'"),
        (["--candidates", "9"], "--candidates is 9, expected at least 10"),
        (["--dataset", "digits", "--surrogates", "linear", "mlp:train_size=5000"], "5000, expected at most 1437"),
        (["--dataset", "digits", "--surrogates", "linear", "mlp:batch_size=5000"], "batch_size is 5000, expected"),
        (["nowhere"], "no search at nowhere: give the directory of a finished run of `search --method nlfs`"),
        (["unfinished"], "unfinished is no finished run (result.json is missing)"),
    ],
)
def test_what_cannot_be_studied_is_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text("{}")
    assert command("out", *flags)[0] == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """Two finished searches that tried 30 losses each, six of them the same; fitness grows along the history."""
    folder = tmp_path_factory.mktemp("searches")
    genomes = nlfs.random_valid(np.random.default_rng(0), nlfs.NLFSConfig(), 54)
    for name, start in (("a", 0), ("b", 24)):
        path = folder / name
        path.mkdir()
        (path / "result.json").write_text("{}")
        entries = [nlfs.Entry(genome, 0.1 + 0.01 * i) for i, genome in enumerate(genomes[start : start + 30])]
        nlfs.history.write(path, [*entries, nlfs.Entry(genomes[0], np.inf)])
    return folder, genomes


def test_candidates_are_spread_over_the_fitness_of_searches(searches):
    folder, genomes = searches
    found = sample.draw([str(folder / "a"), str(folder / "b")], 20, 0)
    keys = signatures(nlfs.tables_of_genomes(genomes))
    places = [keys.index(key) for key in signatures(np.stack([candidate.table for candidate in found]))]
    first, second = places[:10], places[10:]
    assert first[0] == 0
    assert [place // 3 for place in first] == list(range(10))  # one of each tenth
    assert second[0] == 30  # the best of the second that the first had not tried
    assert second == sorted(second)
    assert [candidate.formula for candidate in found] == [candidate.loss.loss().formula for candidate in found]
    again, other = (sample.draw([str(folder / "a")], 20, seed) for seed in (1, 2))
    assert [c.name for c in again] == [f"{i:02d}" for i in range(1, 21)]
    assert [c.formula for c in again] != [c.formula for c in other]
    with pytest.raises(UserError, match="has 30 different losses that trained, expected at least 31: lower --cand"):
        sample.draw([str(folder / "a")], 31, 0)
    with pytest.raises(UserError, match="a run is given twice"):
        sample.draw([str(folder / "a"), str(folder / "b" / ".." / "a")], 20, 0)


def test_tables_are_those_of_the_losses():
    found = sample.draw([], 12, 3)
    keys = signatures(np.stack([candidate.table for candidate in found]))
    assert len(set(keys)) == 12
    flipped = [candidate for candidate in found if candidate.loss.record.flip]
    assert flipped
    for candidate in found:
        (table,) = tables_of_expressions([candidate.loss.record.expression])
        assert np.array_equal(candidate.table, -table if candidate in flipped else table, equal_nan=True)


def test_networks_of_one_kind_have_names_of_their_own():
    config = SurrogateConfig(surrogates=("linear:steps=3", "mlp:steps=3", "mlp:steps=4,lr=0.1"))
    assert names_of(config.stages) == ["linear", "mlp:steps=3", "mlp:steps=4,lr=0.1"]


def test_no_candidate_ends_early_unless_a_network_says_so():
    plain, own = (stages.Stage.parse(f"mlp:steps=50{text}") for text in ("", ",stop_error=0.8"))
    assert to_the_end(plain).stop_error == 1.0
    assert to_the_end(own).stop_error == 0.8
