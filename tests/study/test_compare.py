"""`edl-jax compare`: from the command to the report, grown, broken and resumed."""

import csv
import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from compare_cases import GRID, MEASURED, read

from edl_jax.cli import main as cli
from edl_jax.core.errors import DivergedError, UserError
from edl_jax.downstream import RunSequence
from edl_jax.study.compare import figures, gather, monitor, study, worker
from edl_jax.study.compare.leases import Leases, LeaseTimes, this_process
from edl_jax.study.compare.statistics import Row

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Leave figures empty: tests/plot/test_comparison.py draws them."""

    def touch(path, *_, **__):
        path.touch()

    with pytest.MonkeyPatch.context() as patch:
        for name in ("settings", "differences", "seeds_needed"):
            patch.setattr(figures.comparison, name, touch)
        yield


@pytest.fixture(scope="module", autouse=True)
def shared_programs():
    """Programs are compiled once, whichever grid asks."""
    sequences: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "RunSequence", lambda *folders: sequences.setdefault(folders, RunSequence(*folders)))
        yield


def compare(line, out):
    return cli.main([*line.split(), "--out", str(out)])


def listing(out):
    return {path.name: (path / "result.json").stat().st_mtime_ns for path in (out / "cells").iterdir()}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A grid of two losses and two seeds, and what was printed."""
    out = tmp_path_factory.mktemp("compare") / "grid"
    assert compare(f"{GRID} edl --seeds 0-1", out) == 0
    return out


@pytest.fixture
def grid(first, tmp_path):
    """A copy of it."""
    shutil.copytree(first, tmp_path / "grid")
    return tmp_path / "grid"


def test_cells_are_ordinary_runs_with_the_numbers_of_downstream(first, tmp_path):
    cells = first / "cells"
    assert sorted(path.name for path in cells.iterdir()) == [
        f"mlp-digits-noise0-{loss}-lr0.1-seed{seed}" for loss in ("cross_entropy", "edl") for seed in (0, 1)
    ]
    flags = "downstream --config debug --epochs 2 --warmup-epochs 1 --train-size 128 --loss edl --seed 1"
    assert compare(flags, tmp_path / "run") == 0
    alone, cell = tmp_path / "run", cells / "mlp-digits-noise0-edl-lr0.1-seed1"
    assert (alone / "config.json").read_text() == (cell / "config.json").read_text()
    known = json.loads((alone / "result.json").read_text())
    found = json.loads((cell / "result.json").read_text())
    assert {"temperature", "temperature_from", "scaled_nll", "scaled_ece"} == found.keys() - known.keys()
    known = {key: value for key, value in known.items() if not MEASURED.fullmatch(key)}
    assert {key: found[key] for key in known} == known
    assert found["scaled_nll"] < found["test_nll"]


def test_files_have_the_columns_that_are_documented(first):
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    result = read(first)
    with (first / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    with (first / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(cells[0]) == list(gather.CELL_COLUMNS) == list(result["cells"][0])
    assert list(rows[0]) == list(Row.__dataclass_fields__) == list(result["comparison"][0])
    assert documented == [*result, *rows[0], *cells[0]]
    assert len(cells) == 4
    assert {row["metric"] for row in rows} == {"accuracy", "nll", "ece", "nll_scaled", "ece_scaled"}
    assert result["complete"]
    by_name = {cell["name"]: cell for cell in cells}
    assert float(by_name["mlp-digits-noise0-edl-lr0.1-seed1"]["test_accuracy"]) == next(
        cell["test_accuracy"] for cell in result["cells"] if cell["loss"] == "edl" and cell["seed"] == 1
    )
    report = (first / "report.md").read_text()
    assert "| edl | 0.1 | 2 |" in report
    assert len({line.count("|") for line in report.splitlines() if line.startswith("|")}) == 2
    assert sorted(path.name for path in (first / "figures").iterdir())[:2] == [
        "differences_accuracy.png",
        "differences_ece.png",
    ]


def test_a_grid_grows_and_runs_no_cell_again(grid, capsys, monkeypatch):
    monkeypatch.setattr(monitor, "_LOOK", 0.02)  # the estimate comes while cells are left
    before = listing(grid)
    # What is typed is added to what is there, and the rest is as it was.
    assert cli.main(["compare", "--resume", "--out", str(grid), "--seeds", "2", "--losses", "gce"]) == 0
    after = listing(grid)
    assert {name: after[name] for name in before} == before
    assert len(after) == 9
    result = read(grid)
    assert result["config"]["losses"] == ["cross_entropy", "edl", "gce"]
    assert result["config"]["seeds"] == [0, 1, 2]
    err = capsys.readouterr().err
    assert "compare: 9 cells, 4 of them done before" in err
    assert re.search(r"compare: (about .*|less than 1 s) for the \d cells left, with 1 worker here", err)
    # With nothing left, nothing is written again.
    stamp = (grid / "result.json").stat().st_mtime_ns
    assert cli.main(["compare", "--join", "--out", str(grid)]) == 0
    assert (grid / "result.json").stat().st_mtime_ns == stamp
    # Another margin is another report, of the same cells.
    assert cli.main(["compare", "--report-only", "--out", str(grid), "--margin", "90"]) == 0
    rows = [row for row in read(grid)["comparison"] if row["metric"] == "accuracy" and row["verdict"]]
    assert [row["verdict"] for row in rows] == ["level", "level"]
    assert listing(grid) == after


def test_cells_of_a_machine_that_shares_no_directory_are_copied_in(grid, tmp_path):
    other = tmp_path / "other"
    assert compare(f"{GRID} edl --seeds 2", other) == 0
    shutil.copytree(other / "cells", grid / "cells", dirs_exist_ok=True)
    before = listing(grid)
    assert compare("compare --resume --seeds 2", grid) == 0
    assert listing(grid) == before
    assert {row["n"] for row in read(grid)["comparison"]} == {3}


def test_a_grid_that_is_trained_otherwise_is_refused(grid, capsys):
    assert compare(f"{GRID} edl --seeds 0-1 --epochs 3 --resume", grid) == 2
    err = capsys.readouterr().err
    assert "with another config (config.training.epochs: 2 -> 3)" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--losses cross_entropy eld", "unknown loss 'eld': did you mean edl"),
        ("--losses poly1:epsilom=2", "unknown hyper-parameter 'epsilom' of loss poly1: did you mean epsilon?"),
        ("--archs mpl", "unknown arch 'mpl': did you mean mlp"),
        ("--datasets digist", "unknown dataset 'digist': did you mean digits"),
        ("--datasets cifar10 --data-dir nowhere", "nowhere"),
        ("--label-noise 0 1.5", "1.5 is in --label-noise"),
        ("--seeds 0-", "0- is among --seeds"),
        ("--seeds", "--seeds is empty"),
        ("--baseline gce", "--baseline is gce, expected one of --losses: cross_entropy, edl"),
        ("--loss edl", "unknown flag --loss: did you mean --losses?"),
        ("--seed 1", "unknown flag --seed: did you mean --seeds?"),
        ("--tune-lr 2", "give --val-size"),
        ("--workers 0", "--workers is 0, expected a number of processes"),
        ("--lease-seconds 0", "--lease-seconds is 0.0, expected a positive number"),
        ("--figure-format gif", "gif"),
        ("--config nowhere", "unknown downstream preset 'nowhere'"),
        ("--join --resume", "--join goes without --resume and --overwrite"),
        ("--resume", "no run to resume at"),
        ("--report-only", "no run to resume at"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(line, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compare(f"compare --config debug {line}", tmp_path / "grid") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_other_directories_are_refused(grid, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    for flag in ("", "--join", "--resume", "--overwrite", "--report-only"):
        assert compare(f"{GRID} {flag}", tmp_path / "notes") == 2
    cell = grid / "cells" / "mlp-digits-noise0-edl-lr0.1-seed0"
    assert compare(f"{GRID} --resume", cell) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 6
    assert "is a downstream run, expected a grid of compare" in err
    # A cell of another config, and one whose run was cut.
    record = json.loads((cell / "config.json").read_text())
    record["config"]["epochs"] = 7
    (cell / "config.json").write_text(json.dumps(record))
    assert compare("compare --resume", grid) == 2
    assert "is a run of another config (epochs: 7 -> 2): move it away" in capsys.readouterr().err


@pytest.fixture
def breaks(monkeypatch):
    """Let the cells of some losses fail."""
    errors = {}
    real = RunSequence.run

    def run(self, config, *args, **keywords):
        if config.loss in errors:
            raise errors[config.loss]
        return real(self, config, *args, **keywords)

    monkeypatch.setattr(RunSequence, "run", run)
    return errors


def test_a_cell_that_fails_is_reported_and_the_rest_goes_on(grid, breaks, capsys):
    breaks |= {"gce": ZeroDivisionError("a\nbug"), "focal": DivergedError("became non-finite at step 7")}
    line = "compare --resume --losses gce focal"
    assert compare(line, grid) == 2
    out, err = capsys.readouterr()
    assert (
        "mlp-digits-noise0-gce-lr0.1-seed0 has failed: ZeroDivisionError: a bug, in edl_jax/study/compare/worker" in err
    )
    assert "error: 4 of 8 cells have failed, such as mlp-digits-noise0-gce-lr0.1-seed0 (ZeroDivisionError" in err
    assert "Traceback" not in err
    assert "report: " in out
    result = read(grid)
    assert result["complete"]
    states = {cell["loss"]: cell["state"] for cell in result["cells"]}
    assert states == {"cross_entropy": "done", "edl": "done", "gce": "error", "focal": "diverged"}
    report = (grid / "report.md").read_text()
    assert "0 + 2 diverged" in report
    assert "## Failed" in report
    # They are not tried again by themselves; with --retry they are.
    breaks.clear()
    assert compare("compare --resume", grid) == 2
    assert compare("compare --resume --retry", grid) == 0
    assert {cell["state"] for cell in read(grid)["cells"]} == {"done"}


def test_a_grid_whose_cells_diverge_ends_as_a_run_that_diverges(grid, breaks):
    breaks["focal"] = DivergedError("became non-finite at step 7")
    assert compare("compare --resume --losses focal", grid) == 3


def test_a_full_disk_ends_the_grid_and_no_cell_is_blamed(grid, breaks, capsys):
    breaks["gce"] = OSError(28, "No space left on device")
    assert compare("compare --resume --losses gce", grid) == 2
    assert "cannot write: No space left on device" in capsys.readouterr().err
    assert not (grid / "failures").exists()
    breaks.clear()
    assert compare("compare --resume", grid) == 0


def test_a_cell_that_ends_its_workers_is_given_up(grid, capsys):
    name = "mlp-digits-noise0-gce-lr0.1-seed0"
    for generation in range(1, 6):
        (grid / "leases" / f"{name}.{generation}").write_text(json.dumps(worker_that_died()))
    assert compare("compare --resume --losses gce", grid) == 2
    assert f"{name} has failed: 5 workers ended while they had it" in capsys.readouterr().err


def worker_that_died():
    return {**this_process(), "pid": 2**22 + 1, "count": 1, "released": False}


def test_a_lost_lease_ends_the_cell_and_not_the_worker(grid, monkeypatch):
    """The worker that took it over has finished it by then."""
    name = "mlp-digits-noise0-gce-lr0.1-seed0"
    real, stopped = RunSequence.run, []

    def run(self, config, out, *, stop, **keywords):
        if out.name == name and not stopped:
            (grid / "leases" / f"{name}.2").write_text(json.dumps(worker_that_died()))
            stop._lease.renew()
            try:
                return real(self, config, out, stop=stop, **keywords)
            except KeyboardInterrupt:
                stopped.append(out.name)
                raise
        return real(self, config, out, stop=stop, **keywords)

    monkeypatch.setattr(RunSequence, "run", run)
    assert compare("compare --resume --losses gce", grid) == 0
    assert stopped == [name]
    assert (grid / "leases" / f"{name}.3").exists()
    assert {cell["state"] for cell in read(grid)["cells"]} == {"done"}


def test_rates_are_tuned_on_validation_images_with_other_seeds(tmp_path):
    out = tmp_path / "grid"
    line = f"{GRID} --seeds 0-1 --val-size 200 --tune-lr 1 --lr-factors 0.001 2"
    assert compare(line, out) == 0
    result = read(out)
    cells = result["cells"]
    assert {cell["seed"] for cell in cells if cell["role"] == "tuning"} == {1_000_000}
    assert sum(cell["role"] == "tuning" for cell in cells) == 2
    for row in result["tuning"]:
        best = max(row["rates"], key=lambda rate: rate["val_accuracy"])
        assert row["lr"] == best["lr"] == pytest.approx(0.2)
        tuning = [c for c in cells if c["role"] == "tuning" and c["loss"] == row["loss"] and c["lr"] == best["lr"]]
        assert [cell["val_accuracy"] for cell in tuning] == [best["val_accuracy"]]
        chosen = [c for c in cells if "tuned" in c["role"] and c["loss"] == row["loss"]]
        assert [(cell["lr"], cell["seed"]) for cell in chosen] == [(row["lr"], 0), (row["lr"], 1)]
    assert {cell["temperature_from"] for cell in cells} == {"validation"}
    rows = {(row["mode"], row["loss"]) for row in result["comparison"]}
    assert rows == {("drop-in", "cross_entropy"), ("tuned", "cross_entropy")}
    assert "accuracy_best_val" in {row["metric"] for row in result["comparison"]}
    report = (out / "report.md").read_text()
    assert "## Tuned: the rate of each loss, chosen on validation images (2 rates x 1 seeds)" in report
    assert "at an end" in report
    assert "no epoch is chosen, but in the rows that say so" in report


def test_cells_of_several_revisions_are_marked(grid):
    file = grid / "cells" / "mlp-digits-noise0-edl-lr0.1-seed0" / "environment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "git_revision": "0123"}))
    assert compare("compare --report-only", grid) == 0
    report = (grid / "report.md").read_text()
    assert "| edl † |" in report
    assert "| cross_entropy |" in report
    assert "- 0123: 1 cells" in report


def test_a_stopped_grid_goes_on(grid, monkeypatch, capsys):
    stops = []
    real = RunSequence.run

    def run(self, config, out, *, stop, **keywords):
        if not stops:
            stops.append(out.name)
            stop._worker.request(signal.SIGTERM)
        return real(self, config, out, stop=stop, **keywords)

    monkeypatch.setattr(RunSequence, "run", run)
    assert compare("compare --resume --losses gce", grid) == 128 + signal.SIGTERM
    err = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"stopped by SIGTERM after step \d of 4, cell mlp-digits-noise0-gce-lr0.1-seed0: give the same command with "
        r"--out \S+ and --resume to go on",
        err[-1],
    )
    assert compare("compare --resume", grid) == 0
    assert read(grid)["complete"]


def test_overwriting_a_grid_with_living_workers_is_refused(grid, capsys):
    lease = Leases(grid / "leases", LeaseTimes()).take("another-cell")
    assert compare(f"{GRID} --seeds 0 --overwrite", grid) == 2
    assert "has cells in work (process " in capsys.readouterr().err
    lease.release()
    assert compare(f"{GRID} --seeds 0 --overwrite", grid) == 0
    assert len(read(grid)["cells"]) == 1


def test_all_is_checked_before_a_directory_is_made(tmp_path, monkeypatch):
    def refuse(*_):
        raise UserError("absent")

    monkeypatch.setattr(study, "_check_cells", refuse)
    assert compare(GRID, tmp_path / "grid") == 2
    assert not (tmp_path / "grid").exists()
