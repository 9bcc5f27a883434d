"""Gradient descent on the parameters of candidate losses: which loss, after a step of training with it, serves best?

A step of the search draws weights, makes a training step with each candidate's loss, and differentiates the task's
loss, cross-entropy or mean squared error, of the trained student on a validation batch in the candidate's parameters
(unrolled differentiation, as EvoMAL and ML3 do it); Adam follows that gradient.

    linearised    the training step moves the validation outputs by a tangent kernel, which candidates and generations
                  share: one matrix product for all candidates, nothing is trained
    matrix_free   the same without kernels: a pass backward and one forward for each candidate
    exact         through the student's own training steps, any number of them, for any student
    none          parameters stay as they are

A family of losses is a function of (parameters, candidate, y, x) that returns slopes dg/dx, where x is ln p, or in
regression the prediction: edge weights and a tape for EvoMAL's trees, a network and nothing for ML3.
"""

from edl_jax.search.local_search.base import Found, LocalSearch, LocalSearchConfig
from edl_jax.search.local_search.exact import Exact
from edl_jax.search.local_search.linearised import Linearised
from edl_jax.search.local_search.matrix_free import MatrixFree
from edl_jax.search.local_search.methods import METHODS, Guarded, check_method, no_search
from edl_jax.search.tasks import Slopes

__all__ = [
    "METHODS",
    "Exact",
    "Found",
    "Guarded",
    "Linearised",
    "LocalSearch",
    "LocalSearchConfig",
    "MatrixFree",
    "Slopes",
    "check_method",
    "no_search",
]
