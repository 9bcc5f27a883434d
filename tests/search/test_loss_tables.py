"""Tables of losses that exist."""

import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.expression import parse
from edl_jax.search.loss_tables import table_of_loss
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.tables import same

FORMULAS = {
    "cross_entropy": "-y*ln(p)",
    "brier": "(p - y)^2",
    "ace": "y*abs(ln(1.1*p))",
    "label_smoothing": "-(0.9*y + 0.01)*ln(p)",
    "baikal": "-(ln(p) - y*max(1/p, 0))/10",
}


@pytest.mark.parametrize(
    "name", [name if name in ("brier", "baikal") else pytest.param(name, marks=pytest.mark.slow) for name in FORMULAS]
)
def test_a_loss_of_the_zoo_is_the_candidate_that_its_formula_is(name):
    found, expected = table_of_loss(loss.get(name), 10), tables_of_expressions([parse(FORMULAS[name])])[0]
    usable = slice(250, None) if name == "baikal" else slice(None)  # goes on as a line below p = 1e-7
    np.testing.assert_allclose(found[:, usable], expected[:, usable], rtol=1e-5, atol=1e-6)
    assert same(found[:, usable], expected[:, usable])


@pytest.mark.parametrize("flip", [False, True])
def test_an_expression_loss_is_its_expression(flip):
    weights = (1.0, 0.5, 2.0, 3.0)
    found = table_of_loss(loss.expression_loss("y*tanh(p)", weights, flip))
    (table,) = tables_of_expressions([parse("y*tanh(p)")], [weights])
    np.testing.assert_array_equal(found, -table if flip else table)


@pytest.mark.slow
def test_a_prior_is_a_candidate_for_a_number_of_classes():
    prior = loss.get("edl_per_class")
    table = table_of_loss(prior, 10)
    assert np.all(table[1] < 0.0)
    assert not same(table, table_of_loss(prior, 100))  # its calibration depends on C


@pytest.mark.parametrize(
    "name",
    ["nce", *(pytest.param(name, marks=pytest.mark.slow) for name in ("logit_norm", "crammer_singer")), "weighted"],
)
def test_a_loss_of_another_form_is_refused(name):
    def weighted(logits, labels):
        return loss.cross_entropy(logits, labels) * (1.0 + labels.astype(jnp.float32))

    with pytest.raises(UserError, match=rf"^{name} is no sum of g\(y_c, p_c\) over the classes: a search takes losses"):
        table_of_loss(weighted if name == "weighted" else loss.get(name))


def test_a_loss_that_takes_no_such_logits_is_refused():
    with pytest.raises(UserError, match="asymmetric has no table for 10 classes: asymmetric is a loss of two classes"):
        table_of_loss(loss.get("asymmetric"))
    with pytest.raises(UserError, match="num_classes is 2, expected at least 3"):
        table_of_loss(loss.get("brier"), 2)
