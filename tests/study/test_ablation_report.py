"""What an ablation says, on results made by hand."""

import dataclasses
import math

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

from edl_jax.core.files import write_json
from edl_jax.plot import curves, sensitivity as sensitivity_figure
from edl_jax.pretrain import PretrainConfig
from edl_jax.strategies import StrategyConfig
from edl_jax.study.ablate import figures, report as ablation_report
from edl_jax.study.ablate.factors import FACTORS, Cell, cells
from edl_jax.study.ablate.report import generations_within, measures
from edl_jax.study.ablate.study import Result

RUNS, EVEN = 10, 20
BASE = PretrainConfig(generations=EVEN, es=StrategyConfig(std=0.2)).settled()


def result(ratio, accuracy=None, spread=None, test=None, even=None, seconds=0.5):
    """Return a result from rows of F / F*; the other numbers are plain where not given."""
    ratio = np.asarray(ratio, float)
    return Result(
        fitness_ratio=ratio,
        mean_ratio=ratio,
        ranking_accuracy=np.full(ratio.shape, 0.9) if accuracy is None else np.asarray(accuracy, float),
        population_spread=np.full(ratio.shape, 0.1) if spread is None else np.asarray(spread, float),
        test_ratio=ratio[:, -1] if test is None else np.asarray(test, float),
        evaluations_end=ratio.shape[1] if even is None else even,
        seconds=seconds,
        seconds_compiling=3.0,
    )


def made(seed, test, length=EVEN, **keywords):
    """Return a result of 10 runs that fall towards `test`."""
    rng = np.random.default_rng(seed)
    curve = 1.0 + np.exp(-np.arange(length) / 3.0) + 0.02
    return result(np.tile(curve, (RUNS, 1)) + 0.001 * rng.random((RUNS, length)), test=test, **keywords)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of three factors: cells, F / F* on fresh pairs by label, the returned content, the folder."""
    folder = tmp_path_factory.mktemp("study")
    found = cells(BASE, ["noise", "std", "severity_m1"])
    rng = np.random.default_rng(0)
    seeds = 0.01 * rng.random(RUNS)  # what runs of one seed have in common
    tests = {i: 1.005 + 0.001 * (i % 5) + seeds + 0.002 * rng.random(RUNS) for i in range(len(found))}
    index = {use: i for i, cell in enumerate(found) for use in cell.uses}
    tests[index["noise", "tent"]] = np.full(RUNS, 1.5)
    results = {i: made(i, test) for i, test in tests.items()}
    for i in (0, index["noise", "tent"]):  # no spread: no test
        results[i] = results[i]._replace(population_spread=np.full((RUNS, EVEN), 0.25 if i else 0.125))
    late = np.full((RUNS, EVEN), 0.9)
    late[1:, 7:] = 0.995
    results[index["noise", "gauss"]] = results[index["noise", "gauss"]]._replace(ranking_accuracy=late)
    early = np.full((RUNS, EVEN), 0.9)
    early[:, 4:] = 0.995
    results[0] = results[0]._replace(ranking_accuracy=early)
    with pytest.MonkeyPatch.context() as patch:  # the figures of one factor are drawn
        for name in ("convergence", "differences"):
            draw = getattr(curves, name)
            patch.setattr(curves, name, lambda path, *args, draw=draw, **options: only_std(path, draw, args, options))
        content = ablation_report.write(folder, found, results, BASE)
        figures.draw(folder / "figures", found, results, content)
    return {use: tests[i] for use, i in index.items()}, content, folder


def only_std(path, draw, args, options):
    if path.name.startswith("std_"):
        draw(path, *args, **options)
    else:
        path.touch()


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no figures: the study has them."""
    for module, name in ((curves, "convergence"), (curves, "differences"), (sensitivity_figure, "sensitivity")):
        monkeypatch.setattr(module, name, lambda *_, **__: None)


def section(folder, factor):
    """Return the tables of a factor as label to cells of text, and its heading."""
    text = (folder / "report.md").read_text(encoding="utf-8").split(f"\n## {factor} ")[1].split("\n## ")[0]
    heading, *tables = text.split("\n\n")
    cells = {}
    for table in tables:
        names, _, *rows = [[part.strip() for part in line.strip("| ").split(" | ")] for line in table.splitlines()]
        for row in rows:
            cells.setdefault(row[0], {}).update(zip(names, row, strict=True))
    return heading, cells


# The numbers of a cell.


def test_measures_of_a_hand_made_result():
    ratio = [[1.5, 1.2, 1.01, 1.005, 1.001, 1.0005], [1.5, 1.4, 1.3, 1.2, 1.009, 1.008], [1.5] * 6]
    accuracy = [[0.5, 0.99, 0.98, 1.0, 1.0, 1.0], [0.99] * 6, [0.9, 0.9, 0.9, 0.9, 0.9, 0.995]]
    spread = np.arange(18.0).reshape(3, 6)
    found = measures(result(ratio, accuracy, spread, test=[1.25, 1.0, 0.5], even=4), budget=2.6)
    expected = {
        "test_excess": [0.25, 0.0, -0.5],
        "time_excess": [0.001, 0.009, 0.5],  # 5 generations of 0.5 s
        "generations_to_accuracy": [2.0, 1.0, math.inf],  # the third gets there beyond equal evaluations
        "generations_to_ratio": [3.0, math.inf, math.inf],
        "seconds_to_accuracy": [1.0, 0.5, 3.0],
        "seconds_to_ratio": [1.5, 2.5, math.inf],
        "final_spread": [3.0, 9.0, 15.0],
    }
    assert found.keys() == expected.keys() == ablation_report._MEASURES.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("budget", "index"), [(0.1, 0), (0.5, 0), (0.99, 0), (1.0, 1), (2.0, 3), (60.0, 3)])
def test_equal_time_is_read_within_what_was_run(budget, index):
    ratio = np.array([[1.4, 1.3, 1.2, 1.1]])
    np.testing.assert_allclose(measures(result(ratio), budget)["time_excess"], ratio[:, index] - 1.0)


@pytest.mark.parametrize("seconds", [0.1, 1e-4 / 3.0, 0.0123456789])
@pytest.mark.parametrize("count", [1, 3, 300, 499])
def test_the_base_has_all_its_generations_within_its_own_time(seconds, count):
    assert generations_within(seconds * count, seconds) == count


def test_a_search_that_diverged_has_an_infinite_spread():
    found = measures(result([[1.5, 1.2]] * 2, spread=[[0.1, math.nan], [0.1, 0.2]]), 1.0)
    np.testing.assert_array_equal(found["final_spread"], [math.inf, 0.2])


# Comparisons.


def test_every_level_is_compared_with_the_base(study):
    tests, content, _ = study
    assert content["defaults"] == {"noise": "logistic", "std": "0.2", "severity_m1": "error"}
    assert content["primary"] == "test_excess"
    assert content["budget_seconds"] == 0.5 * EVEN
    for factor, rows in content["factors"].items():
        reference = content["defaults"][factor]
        assert list(rows) == [level.label for level in FACTORS[factor]]
        for label, row in rows.items():
            np.testing.assert_allclose(row["test_excess"]["value"], np.mean(tests[factor, label]) - 1.0)
            assert (f"test_excess_against_{reference}" in row) == (label != reference)


def test_differences_and_p_values_are_those_of_scipy(study):
    tests, content, _ = study
    found = content["factors"]["std"]["1"]["test_excess_against_0.2"]
    a, b = tests["std", "1"], tests["std", "0.2"]
    expected = stats.ttest_rel(a, b)
    assert found["test"] == "paired t"
    np.testing.assert_allclose(found["difference"], np.mean(a - b))
    np.testing.assert_allclose([found["low"], found["high"]], expected.confidence_interval(), rtol=1e-9)
    np.testing.assert_allclose(found["p"], expected.pvalue, rtol=1e-9)


@pytest.mark.parametrize("factor", ["noise", "std", "severity_m1"])
def test_p_values_are_corrected_within_the_factor(study, factor):
    _, content, _ = study
    reference = content["defaults"][factor]
    found = [
        row[f"test_excess_against_{reference}"]
        for label, row in content["factors"][factor].items()
        if label != reference
    ]
    p = np.array([comparison["p"] for comparison in found if comparison["p"] is not None])
    assert len(p) >= 3
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1.0)
    np.testing.assert_allclose([c["p_holm"] for c in found if c["p"] is not None], adjusted, rtol=1e-12)


def test_no_p_value_without_spread(study):
    _, content, _ = study
    found = content["factors"]["noise"]["tent"]["final_spread_against_logistic"]
    assert (found["difference"], found["p"], found["p_holm"], found["effect"]) == (0.125, None, None, None)


def test_no_p_value_between_seconds(study):
    _, content, _ = study
    row = content["factors"]["noise"]["tent"]
    assert not [name for name in row if name.startswith("seconds") and "against" in name]
    assert {"seconds_to_ratio", "seconds_to_accuracy", "seconds_per_generation", "seconds_compiling"} <= row.keys()


def test_a_run_that_never_got_there_makes_a_median_and_a_test_of_ranks(study):
    _, content, _ = study
    row = content["factors"]["noise"]["gauss"]
    estimate = row["generations_to_accuracy"]
    assert (estimate["kind"], estimate["value"], estimate["low"], estimate["high"]) == ("median", 8.0, 8.0, 8.0)
    found = row["generations_to_accuracy_against_logistic"]
    assert found["test"] == "Mann-Whitney"
    assert math.isnan(found["difference"])
    assert found["cliffs_delta"] == 1.0


# The report.


def test_the_report_has_a_row_for_every_level(study):
    tests, content, folder = study
    for factor, rows in content["factors"].items():
        heading, table = section(folder, factor)
        assert heading == f"(against {content['defaults'][factor]})"
        assert list(table) == list(rows)
        for label, row in table.items():
            assert row["10³ (F/F* − 1), fresh pairs"].split()[0] == f"{1e3 * (np.mean(tests[factor, label]) - 1.0):.3g}"
        base = table[content["defaults"][factor]]
        assert base["difference"] == base["p (Holm)"] == base["d"] == "–"
        assert "nan" not in str(table)


def test_the_report_says_never(study):
    _, table = section(study[2], "noise")
    tent, gauss, base = table["tent"], table["gauss"], table["logistic"]
    assert (
        tent["generations to 99 %"] == tent["generations to F ≤ 1.01 F*"] == tent["seconds to F ≤ 1.01 F*"] == "never"
    )
    assert gauss["generations to 99 %"] == "median 8 (8 to 8)"
    assert base["generations to 99 %"] == "5 (5 to 5)"


def test_result_json_can_be_written(study, tmp_path):
    write_json(tmp_path / "result.json", study[1])
    assert "NaN" not in (tmp_path / "result.json").read_text()


def test_every_factor_has_its_figures(study):
    _, content, folder = study
    kinds = ("evaluations", "time", "spread", "differences")
    names = {f"{factor}_{kind}.png" for factor in content["factors"] for kind in kinds} | {"sensitivity.png"}
    assert {path.name for path in (folder / "figures").iterdir()} == names
    for name in [name for name in names if name.startswith(("std_", "sensitivity"))]:
        assert 0.5 < np.mean(imread(folder / "figures" / name) == 1.0) < 0.999


def test_numbers_stand_at_their_values_in_the_sensitivity_figure(undrawn, monkeypatch, tmp_path):
    drawn = {}
    monkeypatch.setattr(
        sensitivity_figure, "sensitivity", lambda path, panels, **options: drawn.update(panels, **options)
    )
    found = cells(BASE, ["population_size", "std_rule"])
    size = {i: cell.config.es.population_size for i, cell in enumerate(found)}
    results = {i: made(i, np.full(RUNS, 1.0 + size[i])) for i in size}
    figures.draw(tmp_path, found, results, ablation_report.write(tmp_path, found, results, BASE))
    levels, values = drawn["population_size"]
    assert levels == [16.0, 32.0, 64.0, 128.0, 256.0]
    np.testing.assert_allclose(values[:, 0], levels)
    assert drawn["std_rule"][0] == ["constant", "exponential", "one_fifth", "csa"]
    assert drawn["default"] == {"population_size": 128.0, "std_rule": "exponential"}


@pytest.mark.parametrize("runs", [1, 2])
def test_few_runs_and_failed_searches_make_a_report(tmp_path, runs, caplog):
    broken = np.full((runs, 5), math.inf)
    fine = np.full((runs, 5), 1.2)
    found = [
        Cell(BASE, (("std", "0.2"),)),
        Cell(dataclasses.replace(BASE, es=StrategyConfig(std=1.0)), (("std", "1"),)),
    ]
    results = {0: result(fine), 1: result(broken, spread=np.full((runs, 5), math.nan))}
    content = ablation_report.write(tmp_path, found, results, BASE)
    figures.draw(tmp_path / "figures", found, results, content)
    assert caplog.text == ""  # a figure that fails is a warning
    assert content["factors"]["std"]["1"]["test_excess"]["value"] == math.inf
    _, table = section(tmp_path, "std")
    assert table["1"]["10³ (F/F* − 1), fresh pairs"] == "never"
    assert table["1"]["p (Holm)"] == "–"


def test_equal_time_follows_a_fast_cell_for_longer(undrawn, tmp_path):
    found = cells(BASE, ["std"])
    results = {i: made(i, np.full(RUNS, 1.1), length=3 * EVEN if i else EVEN, even=EVEN) for i in range(len(found))}
    results[2] = results[2]._replace(seconds=0.25)  # half of the base's
    ends = {0: EVEN, 1: EVEN, 2: 2 * EVEN}
    rows = ablation_report.write(tmp_path, found, results, BASE)["factors"]["std"].values()
    measured = {row["cell"]: row["time_excess"]["value"] for row in rows}
    for i, end in ends.items():
        np.testing.assert_allclose(measured[i], np.mean(results[i].fitness_ratio[:, end - 1]) - 1.0)


def test_the_tables_of_the_report_fit_a_page(tmp_path):
    """Each level has its row in three of them; with medians and the widest numbers too."""
    row = {
        name: {"kind": "median", "value": -0.00123456, "low": -0.00123456, "high": -0.00123456}
        for name in ablation_report._MEASURES
    }
    row["seconds_per_generation"] = 123.456
    against = {"difference": -0.00123456, "low": -0.00123456, "high": -0.00123456, "p_holm": 1.234e-12, "effect": -12.3}
    columns = ablation_report._columns("independent draws", row, against)
    assert set(columns) == {name for names in ablation_report._TABLES for name in names}
    for names in ablation_report._TABLES:
        assert len("| " + " | ".join(max(name, columns[name], key=len) for name in names) + " |") <= 120
