import json
import statistics

import pytest

from edl_jax.core.errors import UserError
from edl_jax.study import summary


@pytest.fixture
def make_run(tmp_path):
    """Write a finished downstream run and return its directory."""

    def make(name, *, loss="edl", seed=0, accuracy=0.5, lr=0.1, command="downstream", **result):
        path = tmp_path / name
        path.mkdir()
        config = {"loss": loss, "seed": seed, "lr": lr}
        (path / "config.json").write_text(json.dumps({"command": command, "config": config}))
        numbers = {"train_accuracy": 1.0, "test_accuracy": accuracy, "test_nll": 2.0, "test_ece": 0.25}
        (path / "result.json").write_text(json.dumps({**numbers, "images_per_second": 1234.5, **result}))
        return path

    return make


def test_table_gives_mean_and_sample_standard_deviation_over_seeds(make_run):
    accuracies = [0.60, 0.65, 0.61]
    runs = [make_run(f"e{seed}", seed=seed, accuracy=value) for seed, value in enumerate(accuracies)]
    runs.append(make_run("c", loss="cross_entropy", seed=3, accuracy=0.7, test_ece=None))
    table = summary.table(summary.read(runs[::-1])).splitlines()
    assert table[0].startswith("| loss | seeds | train accuracy | test accuracy |")
    assert len({line.count("|") for line in table}) == 1
    mean, std = statistics.fmean(accuracies), statistics.stdev(accuracies)
    assert table[2] == "| cross_entropy | 3 | 1.0000 | 0.7000 | 2.0000 | - | 1234 |"
    assert table[3].startswith(f"| edl | 0 1 2 | 1.0000 ± 0.0000 | {mean:.4f} ± {std:.4f} |")


def test_runs_that_differ_in_more_than_loss_and_seed_are_refused(make_run):
    runs = [make_run("a"), make_run("b", seed=1, lr=0.2)]
    with pytest.raises(UserError, match=r"differ in more than loss and seed \(lr: 0.1 -> 0.2\)"):
        summary.read(runs)


def test_a_run_counts_once(make_run):
    run = make_run("a")
    with pytest.raises(UserError, match=r"have the same loss and seed \(edl, 0\)"):
        summary.read([run, run])


def test_no_runs_are_refused():
    with pytest.raises(UserError, match="no run directories given"):
        summary.read([])


def test_other_commands_are_refused(make_run):
    with pytest.raises(UserError, match="is a pretrain run, expected a downstream run"):
        summary.read([make_run("a", command="pretrain")])


def test_unfinished_absent_and_other_paths_are_refused(make_run, tmp_path):
    run = make_run("a")
    with pytest.raises(UserError, match=r"nowhere is no finished run \(config.json is missing\)"):
        summary.read([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="is no finished run"):
        summary.read([run / "config.json"])
    (run / "result.json").unlink()
    with pytest.raises(UserError, match=r"is no finished run \(result.json is missing\)"):
        summary.read([run])


@pytest.mark.parametrize("name", ["config.json", "result.json"])
@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, '{"test_nll": {}, "command": "\\ud800"}'])
def test_damaged_json_is_refused_in_one_line(make_run, name, text):
    run = make_run("a")
    (run / name).write_text(text)
    with pytest.raises(UserError, match="holds damaged JSON") as caught:
        summary.read([run])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", '{"command": "downstream"}', '{"command": "downstream", "config": {}}'])
def test_config_without_its_keys_is_refused(make_run, text):
    run = make_run("a")
    (run / "config.json").write_text(text)
    with pytest.raises(UserError, match="holds damaged JSON"):
        summary.read([run])
