"""What a study of surrogates says, on networks made by hand."""

import csv
import math

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

from edl_jax.plot import agreement as plot
from edl_jax.study.surrogates import figures, report
from edl_jax.study.surrogates.agreement import Chance, Network, Outcome, measure, subsets

INF = math.inf
CHANCE = Chance(0.9, 5000)


def network(name, error, repeat=None, full=True, seconds=1.0):
    """Return a network; the errors of candidates are those given."""
    outcomes = [
        None if e is None else Outcome(np.asarray(e, float), np.broadcast_to(full, len(e))) for e in (error, repeat)
    ]
    return Network(name, f"{name}:steps=3", CHANCE, seconds, *outcomes)


def by_key(rows):
    found = {(row.surrogate, row.reference, row.subset, row.measure): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def networks():
    """Three networks of 40 candidates, the larger ones with less noise; six candidates fail in all of them."""
    rng = np.random.default_rng(0)
    quality = np.sort(rng.uniform(0.2, 0.7, 40))
    quality[-6:] = [INF, INF, 0.9, 0.9, 0.8874, INF]

    def errors(noise):
        worse = np.minimum(quality + noise * np.abs(rng.normal(size=40)), 0.85)
        return np.where(np.arange(40) < 34, worse, quality).round(4)

    return [network(f"n$_{i}", errors(s), errors(s), seconds=3.0**i) for i, s in enumerate((0.2, 0.1, 0.05))]


def test_a_candidate_fails_that_is_not_finite_ends_early_or_guesses():
    limit = 0.9 - 3 * math.sqrt(0.9 * 0.1 / 5000)
    assert pytest.approx(limit) == CHANCE.limit
    made = network("a", [0.2, 0.3, INF, limit, limit - 1e-9, 0.9], full=[True, False, True, True, True, True])
    assert made.errors.tolist() == [0.2, INF, INF, INF, limit - 1e-9, INF]


def test_subsets_are_of_the_larger_network():
    reference = np.array([0.5, 0.1, 0.1, 0.3, INF, 0.2, INF, 0.6, 0.4, 0.7, 0.8, INF])
    surrogate = np.array([0.1, INF, 0.2, 0.3, 0.1, 0.2, INF, 0.6, 0.4, 0.7, 0.8, 0.3])
    found = {name: np.flatnonzero(chosen).tolist() for name, chosen in subsets(surrogate, reference).items()}
    assert found["all"] == list(range(12))
    assert found["trained"] == [0, 2, 3, 5, 7, 8, 9, 10]
    assert found["best quarter"] == [1, 2, 5]
    assert found["best tenth"] == [1, 2]
    few = subsets(surrogate, np.where(np.arange(12) == 3, 0.3, INF))
    assert [int(few[name].sum()) for name in ("best quarter", "best tenth")] == [1, 1]  # none that failed
    equal = subsets(surrogate, np.full(12, 0.5))
    assert equal["best tenth"].all()


def test_correlations_are_scipys_with_failures_last(networks):
    rows = by_key(measure(networks))
    a, b = (np.where(np.isfinite(n.errors), n.errors, 9.0) for n in (networks[0], networks[2]))
    assert a[-6:].tolist() == b[-6:].tolist() == [9.0] * 6
    names = (networks[0].name, networks[2].name)
    best = b <= np.sort(b)[3]
    for subset, chosen in (("all", b < INF), ("trained", (a < 9.0) & (b < 9.0)), ("best tenth", best)):
        for name, coefficient in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
            row = rows[*names, subset, name]
            assert row.candidates == chosen.sum()
            assert row.estimate.value == pytest.approx(coefficient(a[chosen], b[chosen]).statistic)
            assert row.estimate.low <= row.estimate.value <= row.estimate.high


def test_the_ceiling_is_the_mean_of_what_networks_agree_with_themselves(networks):
    rows = by_key(measure(networks))
    first, last = networks[0].name, networks[2].name
    own = [rows[name, name, "all", "spearman"].estimate.value for name in (first, last)]
    assert rows[first, last, "all", "ceiling"].estimate.value == pytest.approx(math.sqrt(own[0] * own[1]))
    plain = by_key(measure([network("a", [0.1] * 12), network("b", np.linspace(0.1, 0.8, 12))]))
    assert not any(measured == "ceiling" or a == b for a, b, _, measured in plain)
    assert math.isnan(plain["a", "b", "all", "spearman"].estimate.value)  # all are equal


def test_recall_and_regret_by_hand():
    error = np.linspace(0.20, 0.39, 20)
    order = [*range(4, 20), 2, 0, 3, 1]  # of the surrogate, from its best
    surrogate = np.empty(20)
    surrogate[order] = error
    error[4] = INF
    rows = by_key(measure([network("a", surrogate), network("b", error)]))
    values = {name: row.estimate.value for (*_, subset, name), row in rows.items() if subset == "all"}
    assert values["recall_twice"] == values["recall_quarter"] == 0.0  # its best 2 are the surrogate's 18th and 20th
    assert values["regret_one"] == pytest.approx(0.9 - 0.20)  # its best failed: the error of a guess
    assert values["regret_tenth"] == pytest.approx(0.25 - 0.20)
    assert rows["a", "b", "all", "recall_twice"].by_chance == 0.2
    mean = (np.sum(np.delete(error, 4)) + 0.9) / 20
    assert rows["a", "b", "all", "regret_one"].by_chance == pytest.approx(mean - 0.20)


def test_report_tables_and_figures(networks, tmp_path):
    rows = measure(networks)
    drawn = figures.draw(tmp_path / "figures", networks, rows)
    assert [path.name for path in drawn] == ["ranks.png", "cost.png"]
    for path in drawn:
        image = imread(path)
        assert image.shape[1] > 600
        assert 0.5 < np.mean(image == 1.0) < 0.99
    candidates = [(f"{i:02d}", f"sum_c [y|p], {i}") for i in range(40)]
    report.write(tmp_path, {"seed": 0}, candidates, networks, rows, drawn)
    text = (tmp_path / "report.md").read_text()
    assert "nan" not in text
    assert "![ranks](<figures/ranks.png>)" in text
    assert "| `n$_0:steps=3` | 34 | 3 | 0 | 3 (≥ 0.8873) |" in text
    row = by_key(rows)["n$_1", "n$_2", "all", "spearman"].estimate
    assert rf"| n\$\_1 → n\$\_2 | {row.value:.2f} ({row.low:.2f} to {row.high:.2f}) [40] |" in text
    with (tmp_path / "errors.csv").open() as file:
        errors = list(csv.DictReader(file))
    assert [float(row["n$_1"]) for row in errors] == networks[1].outcome.error.tolist()
    assert [float(row["n$_2, other seed"]) for row in errors] == networks[2].repeat.error.tolist()
    with (tmp_path / "agreement.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    assert {(line["low"], line["subset"]) for line in table if line["measure"] == "ceiling"} >= {("", "all")}
    line = next(line for line in table if (line["surrogate"], line["reference"]) == ("n$_1", "n$_2"))
    assert (line["measure"], float(line["value"]), float(line["high"])) == ("spearman", row.value, row.high)


def test_networks_in_which_all_fail_are_reported_and_drawn(tmp_path):
    networks = [network("a", [INF] * 12), network("b", [0.9] * 12, seconds=0.0)]
    rows = measure(networks)
    drawn = figures.draw(tmp_path, networks, rows, "svg")
    assert len(drawn) == 2
    report.write(tmp_path, {}, [(str(i), "y*p") for i in range(12)], networks, rows, drawn)
    text = (tmp_path / "report.md").read_text()
    assert "| a → b | – [12] | – [0] | – [0] | – [0] |" in text
    assert "nan" not in text


@pytest.mark.parametrize("seconds", [(0.0193, 0.0309), (1.0,), (0.3, 1.2, 4.8), (0.01, 3.0, 400.0), (0.0,)])
def test_costs_have_a_few_numbers_at_their_axis(seconds, monkeypatch):
    kept = []
    monkeypatch.setattr(plot, "write", lambda path, figure: kept.append(figure))
    points = [plot.Point(f"n{i}", s, {"all": (0.5, 0.3, 0.7)}) for i, s in enumerate(seconds)]
    plot.draw_cost("cost.png", "reference", points)
    kept[0].canvas.draw()
    axis = kept[0].axes[0]
    assert 2 <= len(axis.get_xticks()) <= 6
    assert all(axis.get_xlim()[0] <= tick <= axis.get_xlim()[1] for tick in axis.get_xticks())
