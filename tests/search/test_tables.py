"""Candidates as tables: their gradients beside those of the losses, what is the same candidate, what is not finite."""

import jax
import numpy as np
import pytest
from scipy import special
from search_cases import exact_gradients, random_genomes, random_predictions, random_trees, stack

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex
from edl_jax.search import tables
from edl_jax.search.program_tables import FAMILIES, tables_of_expressions, tables_of_programs
from edl_jax.search.tables import LOG_P, LOGIT_P, SIZE, logit_gradient, same, signatures, table_of_slopes

EVOMAL, NLFS, _ = FAMILIES
STEP = LOGIT_P[1] - LOGIT_P[0]


def table(formula):
    return tables_of_expressions([ex.parse(formula)])[0]


def slopes_at(candidate, logit_p):
    """Return the slopes `[2, N]` that a table gives between its points."""
    return np.stack([np.interp(logit_p, LOGIT_P, row) for row in candidate])


gradient = jax.jit(logit_gradient)
gradients = jax.jit(jax.vmap(logit_gradient, in_axes=(0, None, None)))


def every_gradient(candidates, logits, labels):
    with jax.enable_x64(True):
        return np.asarray(gradients(candidates, logits, labels))


def test_the_grid_ascends_from_4e11_to_1_minus_1e7():
    assert LOG_P.shape == (SIZE,)
    assert LOG_P.dtype == np.float32
    assert np.all(np.diff(LOG_P) > 0.0)
    np.testing.assert_allclose([LOG_P[0], LOG_P[-1]], [-24.0, -1e-7], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("trees", 60),
        pytest.param("trees", 1000, marks=pytest.mark.slow),
        pytest.param("genomes", 1000, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_the_losses(kind, count):
    """The error of a slope is at most the second difference of the table at the ends of its cell.

    That is h^2 times the curvature where a loss is smooth, and the jump where it has a kink. A pole narrower than a
    cell escapes it: in less than 1 of 1,000 places of a tree.
    """
    expressions, weights = random_trees(0, count) if kind == "trees" else (random_genomes(0, count), None)
    programs = stack(expressions, weights)
    candidates = tables_of_programs(programs)
    logits, labels = random_predictions(1, 32, 6)
    exact = exact_gradients(programs, logits, labels, EVOMAL if kind == "trees" else NLFS)
    usable = np.isfinite(candidates).all((1, 2)) & np.isfinite(exact).all((1, 2))
    assert usable.mean() > 0.98
    exact, candidates = exact[usable], candidates[usable].astype(np.float64)
    error = np.abs(every_gradient(candidates, logits, labels) - exact)

    u = np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    cell = np.clip((u - np.log(-np.expm1(u)) - LOGIT_P[0]) / STEP, 0, SIZE - 2).astype(int)
    row = (np.arange(logits.shape[1]) == labels[:, None]).astype(int)
    bends = np.zeros_like(candidates)
    bends[..., 1:-1] = np.abs(candidates[..., 2:] - 2.0 * candidates[..., 1:-1] + candidates[..., :-2])
    bound = np.maximum(bends[:, row, cell], bends[:, row, cell + 1]) + 4e-7 * np.abs(candidates[:, row, cell])
    bound += np.exp(u) * bound.sum(axis=-1, keepdims=True) + 1e-9
    assert np.mean(error <= bound) > 0.999
    with np.errstate(over="ignore"):
        relative = np.linalg.norm(error, axis=-1) / (np.linalg.norm(exact, axis=-1) + 1e-6)
    assert np.quantile(relative, 0.5) < 1e-4
    assert np.quantile(relative, 0.9) < 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_cross_entropy_and_of_the_brier_score(dtype):
    logits, labels = random_predictions(0, 50, 5)
    with jax.enable_x64(True):
        found = [gradient(table(formula), logits.astype(dtype), labels) for formula in ("-y*ln(p)", "square(y - p)")]
    assert found[0].dtype == dtype
    p, y = special.softmax(logits, axis=1), np.eye(5)[labels]
    np.testing.assert_allclose(found[0], p - y, atol=1e-6)
    d = 2.0 * (p - y) * p
    np.testing.assert_allclose(found[1], d - p * d.sum(axis=1, keepdims=True), atol=2e-4)


def test_far_beyond_the_grid_slopes_are_those_of_its_ends():
    z = np.array([[0.0, -1e4, -30.0], [-1e4, 0.0, -30.0], [0.0, np.nan, 1.0]], np.float32)
    found = gradient(table("-y*ln(p)"), z, np.zeros(3, np.int32))
    np.testing.assert_allclose(found[:2], [[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]], atol=1e-6)
    assert np.isnan(found[2]).all()


def test_a_kink_blurs_one_cell():
    kink = np.log(1.0 / 1.1) - np.log(1.0 - 1.0 / 1.1)
    s = np.linspace(-5.0, 5.0, 20001)
    found = slopes_at(table("y*abs(ln(1.1*p))"), s)[1]
    away = np.abs(s - kink) > STEP
    np.testing.assert_allclose(found[away], np.sign(s - kink)[away], atol=1e-6)
    assert np.abs(found).max() <= 1.0 + 1e-6


def test_a_pole_blurs_a_few_cells():
    """Of y ln |2 p - 1|: the error falls as the square of the distance in cells."""
    s = np.linspace(-6.0, 6.0, 20001)
    p = 1.0 / (1.0 + np.exp(-s))
    found = slopes_at(table("y*log_clamp(p - (1 - p))"), s)
    # The multiple of p that makes the other row vanish in the middle is 0 here.
    exact = 2.0 * p / (2.0 * p - 1.0 + (p == 0.5))
    for cells, share in ((3, 0.05), (10, 0.005)):
        away = np.abs(s) > cells * STEP
        np.testing.assert_allclose(found[1][away], exact[away], rtol=share)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("square(y - p)", "square(p - y)"),
        ("square(y - p)", "y*y - 2*y*p + p*p"),
        ("square(y - p)", "square(y - p) - 3*p + y"),  # the probabilities sum to 1
        ("-y*log_clamp(p)", "7 - y*log_clamp(square(p))/2 + sign(p)"),
        ("y*tanh(p)", "y*(1 - 2/(exp(2*p) + 1))"),
        ("tanh(y) + p", "y - y + 1"),
    ],
)
def test_what_is_the_same_candidate(first, second):
    """Whatever it looks like, and whatever family its operators belong to."""
    a, b = table(first), table(second)
    if "square(p))/2" in second:  # protected from another p on
        a, b = a[:, LOG_P > -8.0], b[:, LOG_P > -8.0]
        np.testing.assert_allclose(a, b, atol=1e-6)
        return
    assert same(a, b)
    assert signatures(a[None]) == signatures(b[None])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("square(y - p)", "1.001*square(y - p)"),  # the scale is a learning rate
        ("-y*log_clamp(p)", "-y*log_clamp(p) + 0.001*square(y - p)*y"),
        ("-y*log_clamp(p)", "y*log_clamp(p)"),
        ("y*p", "p*p"),
    ],
)
def test_what_is_another_candidate(first, second):
    a, b = table(first), table(second)
    assert not same(a, b)
    assert signatures(a[None]) != signatures(b[None])


def test_signatures_of_random_trees_agree_with_same():
    """Each tree twice: plain, and with its constants and additions turned round."""
    trees, _ = random_trees(3, 40)
    turned = [ex.parse(f"2*({ex.to_text(tree)})/2 + 4*p - sign(p)") for tree in trees]
    a, b = tables_of_expressions(trees), tables_of_expressions(turned)
    finite = np.isfinite(a).all((1, 2))
    assert same(a, b)[finite].all()
    keys = signatures(a)
    assert [x == y for x, y in zip(keys, signatures(b), strict=True)] == [True] * 40
    for i in range(40):
        assert [key == keys[i] for key in keys] == list(same(a, a[i]))


def test_what_is_not_finite_stays_where_it_is():
    squares = ex.parse("square(square(square(square(square(square(log_clamp(p*y)))))))")
    trees = [squares, ex.parse("-y*log_clamp(p)")]
    candidates = tables_of_expressions([trees[0], trees[1], trees[1]])
    assert not np.isfinite(candidates[0]).all()
    candidates[1, 1, 500] = np.nan
    logits, labels = random_predictions(0, 20, 5)
    found = every_gradient(candidates, logits, labels)
    np.testing.assert_array_equal(found[2], every_gradient(candidates[2:], logits, labels)[0])
    assert np.isfinite(found[2]).all()
    assert same(candidates, candidates).all()
    assert len({*signatures(candidates)}) == 3


def test_slopes_are_made_canonical_whatever_is_not_finite():
    slopes = np.zeros((2, 2, SIZE))
    slopes[:, 0] = 3.0 * np.exp(tables.EXACT_LOG_P)
    slopes[1, 0, SIZE // 2] = np.inf
    found = table_of_slopes(slopes)
    assert found[1, 0, SIZE // 2] == np.inf
    found[1, 0, SIZE // 2] = 0.0
    expected = np.stack([0.0 * LOG_P, -3.0 * np.exp(LOG_P)])
    np.testing.assert_allclose(found, np.stack([expected, expected]), atol=1e-6)


def test_populations_of_a_family_are_one_program(compilations):
    tables_of_expressions([ex.parse("y + p")])
    with compilations() as counts:
        for seed in range(3):
            trees, weights = random_trees(seed, 8 + seed, max_height=4)
            tables_of_expressions(trees, weights)
    assert counts.total() == 0, counts
    assert tables_of_expressions([]).shape == (0, 2, SIZE)


def test_weights_multiply_values_as_they_enter_their_parent():
    tree = ex.evomal.from_tree("mul(y, log(p))")
    weights = [5.0, 2.0, 3.0, 0.5]  # the root's does nothing
    found = tables_of_expressions([tree], [weights])[0]
    assert same(found, table("6*y*log_clamp(0.5*p)"))


def test_programs_that_are_none():
    programs = stack([ex.parse("y + p")])
    with pytest.raises(UserError, match="has a code outside"):
        tables_of_programs(programs._replace(op=np.full_like(programs.op, 99)))
    with pytest.raises(UserError, match="an argument that does not come after"):
        tables_of_programs(programs._replace(first=np.zeros_like(programs.first)))
