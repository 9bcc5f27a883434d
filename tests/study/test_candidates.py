"""The losses that a study tries: the best of searches, no loss twice, and what is no finished search."""

import json
import math

import numpy as np
import pytest
from stage_cases import make_search

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.expression import genome_text
from edl_jax.search.loss_tables import table_of_loss
from edl_jax.search.nlfs import history
from edl_jax.search.tables import same
from edl_jax.study.candidates import of_runs


def test_the_best_of_several_searches_take_turns_and_no_loss_comes_twice(tmp_path):
    runs = [
        make_search(tmp_path / "one", ["-y*ln(p)", "y*(1-p)", "(y-p)^2"]),
        make_search(tmp_path / "two", ["ln(p)*(-y)", "-2*y*ln(p)"]),
    ]
    found = of_runs(runs, 10)
    # The best of the second is that of the first; twice it is another loss.
    assert [candidate.name for candidate in found] == ["a1", "a2", "b2", "a3"]
    assert [candidate.fitness for candidate in found] == pytest.approx([0.1, 0.2, 0.2, 0.3])
    assert "ln(p)" in found[0].formula
    assert same(found[0].table, table_of_loss(loss.cross_entropy))
    assert [candidate.name for candidate in of_runs(runs, 3)] == ["a1", "a2", "b2"]


def test_searches_of_several_seeds_stand_for_their_runs(tmp_path):
    for seed, formula in ((3, "-y*ln(p)"), (5, "(y-p)^2")):
        make_search(tmp_path / f"seed-{seed}", [formula])
    (tmp_path / "config.json").write_text(json.dumps({"command": "search-seeds"}))
    (tmp_path / "result.json").write_text(json.dumps({"seeds": [3, 5]}))
    assert [candidate.name for candidate in of_runs([tmp_path], 10)] == ["a1", "b1"]


def test_a_search_by_nlfs_has_its_history_with_the_sign_that_its_check_gave(tmp_path):
    genome = genome_text.from_text("loss = -root; root = mul(h1, h2); h1 = abs(y); h2 = log_shift(p)")
    run = make_search(tmp_path / "run", ["(y-p)^2"], method="nlfs")
    entries = [history.Entry(genome, fitness, death=0) for fitness in (0.3, math.inf, 0.25)]
    history.write(run, entries)
    (found,) = of_runs([run], 10)
    assert (found.name, found.fitness) == ("a1", 0.25)
    p = slice(400, 900)
    np.testing.assert_allclose(found.table[:, p], table_of_loss(loss.cross_entropy)[:, p], rtol=1e-3, atol=1e-6)
    assert found.formula.startswith("-sum_c")


def test_what_trains_nearly_like_a_better_loss_is_left_out(tmp_path):
    formulas = ["-y*ln(p)", "-3*y*ln(p)", "-y*ln(p) + 0.01*y*(1-p)", "(y-p)^2", "y*ln(p)"]
    found = of_runs([make_search(tmp_path / "run", formulas)], 10, distance=0.05)
    assert [candidate.name for candidate in found] == ["a1", "a4", "a5"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is no run directory"),
        (lambda path: make_search(path, ["p*y"], finished=False), "has not finished .*--resume"),
        (lambda path: make_search(path, []), "holds no loss"),
        (lambda path: make_search(path, ["p*y"], metadata={"task": "regression"}), "is a loss of regression"),
        (
            lambda path: (make_search(path, ["p*y"]) / "config.json").write_text('{"command": "pretrain"}'),
            "is a pretrain run, expected a search",
        ),
        (lambda path: (make_search(path, ["p*y"]) / "result.json").write_text("{"), r"result.json cannot be read"),
        (
            lambda path: (make_search(path, ["p*y"]) / "result.json").write_text('{"winners": 3}'),
            "is damaged .it has no winners",
        ),
    ],
)
def test_what_is_no_finished_search_is_refused_in_a_line(tmp_path, make, message):
    make(tmp_path / "run")
    with pytest.raises(UserError, match=message) as caught:
        of_runs([tmp_path / "run"], 3)
    assert "\n" not in str(caught.value)
