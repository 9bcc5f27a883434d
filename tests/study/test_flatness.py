"""`edl-jax flatness`: from the command to the report, stopped and resumed, and what it refuses."""

import contextlib
import csv
import io
import json
import shutil

import pytest

from edl_jax import downstream
from edl_jax.cli import main as cli
from edl_jax.core.runs import Run
from edl_jax.downstream import DownstreamConfig
from edl_jax.pretrain import PretrainConfig
from edl_jax.study.flatness import figures, ledger, network

SMALL = DownstreamConfig(
    arch="mlp", dataset="digits", loss="poly1", epochs=2, warmup_epochs=0.5, train_size=256, batch_size=32
)
FLAGS = ["--config", "debug", "--examples", "64", "--batch-size", "32", "--probes", "2", "--points", "3", "--grid", "3"]
FLAGS += ["--iterations", "4"]


def command(out, *flags):
    """Run the command and return (exit code, standard output)."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = cli.main(["flatness", "--out", str(out), *map(str, flags)])
    return code, text.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a finished downstream run."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    downstream.run(SMALL, out=directory, figures=False)
    return directory


@pytest.fixture(scope="module")
def compared(trained, tmp_path_factory):
    """A finished comparison: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("flatness") / "out"
    code, out = command(directory, trained, *FLAGS)
    assert code == 0
    return directory, out


def test_a_comparison_leaves_report_table_and_figures(compared, trained):
    directory, out = compared
    with (directory / "flatness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["hessian_of"] for row in rows] == ["own", "cross_entropy"]
    expected = json.loads((trained / "result.json").read_text())
    for row in rows:
        assert float(row["test_accuracy"]) == expected["test_accuracy"]
        assert float(row["eigenvalue_1"]) >= float(row["eigenvalue_2"])
        assert row["products"] == "4"
        ratio = float(row["eigenvalue_1"]) / float(row["eigenvalue_1_over_scale"])
        assert ratio == pytest.approx(float(row["scale"]))
    assert float(rows[0]["scale"]) > 1.0  # poly1 adds to cross-entropy's gradient
    assert {path.name for path in (directory / "figures").iterdir()} == {"hessian.png", "slices.png", "planes.png"}
    assert "≥ " in (directory / "report.md").read_text()  # after four products
    assert not list(directory.glob("networks/*/lanczos-*"))
    assert out.splitlines()[0].startswith("1-run (poly1): of cross-entropy, largest eigenvalue ")


def test_a_comparison_that_was_stopped_ends_with_the_same_numbers(compared, trained, tmp_path, monkeypatch):
    """In its eigenvalues, and in its slices, where writes are rarer than numbers."""
    monkeypatch.setattr(figures, "draw", lambda *_: [])

    def stopping(patch, name, after):
        function, calls = getattr(network.Surface, name), []

        def stopped(surface, *arguments):
            calls.append(arguments)
            if len(calls) > after:
                raise KeyboardInterrupt
            return function(surface, *arguments)

        patch.setattr(network.Surface, name, stopped)

    directory = tmp_path / "out"
    for flags, name, after in (([trained, *FLAGS], "product", 3), (["--resume"], "values", 5)):
        with monkeypatch.context() as patch:
            stopping(patch, name, after)
            assert command(directory, *flags)[0] == 130
        if name == "product":
            assert len(list(directory.glob("networks/1-run/lanczos-own/vector-*"))) == 4
            monkeypatch.setattr(ledger, "_EVERY", 0.0)  # then each number is kept at once
    assert command(directory, "--resume")[0] == 0
    assert (directory / "flatness.csv").read_text() == (compared[0] / "flatness.csv").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no run given: edl-jax flatness RUN [RUN ...]"),
        (["nowhere"], "nowhere: expected the directory of a downstream run"),
        (["unfinished"], "unfinished is no finished run (result.json is missing)"),
        (["pretrained"], "pretrained is a pretrain run, expected a downstream run"),
        (["bare"], "bare has no checkpoint"),
        (["bare", "../{}/bare"], "bare is given 2 times, expected each run once"),
        (["moved"], "no folder pictures: expected one that holds train/CLASS/FILE"),
        (["bare", "--points", "4"], "--points is 4, expected an odd number"),
        (["bare", "--grid", "2"], "--grid is 2, expected 0 or an odd number"),
        (["bare", "--directions", "1"], "--directions is 1, expected at least 2"),
        (["bare", "--iterations", "3"], "--iterations is 3, expected at least --eigenvalues (5)"),
        (["bare", "--span", "0"], "--span is 0.0, expected a positive number"),
    ],
)
def test_what_cannot_be_measured_is_one_line(flags, message, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Run.open("pretrain", PretrainConfig(), out="pretrained").close()
    for name in ("unfinished", "bare"):
        Run.open("downstream", SMALL, out=name).close()
    (tmp_path / "bare" / "result.json").write_text("{}")
    (tmp_path / "bare" / "classifier.json").write_bytes((trained / "classifier.json").read_bytes())
    shutil.copytree(trained, tmp_path / "moved")
    settings = (trained / "config.json").read_text().replace('"digits"', '"./pictures"')
    (tmp_path / "moved" / "config.json").write_text(settings)
    assert command("out", *(flag.format(tmp_path.name) for flag in flags))[0] == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
