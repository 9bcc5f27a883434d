"""`import edl_jax.loss` is light: other people's pipelines import it."""

import json
import subprocess
import sys
import time

import pytest

from edl_jax import loss

HEAVY = ("cv2", "equinox", "evosax", "matplotlib", "optax", "orbax", "pandas", "sklearn", "sympy", "tensorflow")
HEAVY += ("tensorflow_datasets", "torch", "tyro")


# One process for all the stages: starting it is what they cost.
STAGES = """
import json, sys
found = {}
import edl_jax.loss
found["import"] = sorted(sys.modules)
edl_jax.loss.get("cross_entropy")([[1.0, 2.0]], [0])
edl_jax.loss.expression.parse("-y*ln(p)")
found["use"] = sorted(sys.modules)
print(json.dumps(found))
"""


def run(code):
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - start, done.stdout


@pytest.fixture(scope="module")
def loaded():
    """The names of the modules that are loaded after each stage."""
    return json.loads(run(STAGES)[1])


def test_nothing_heavy_is_imported(loaded):
    packages = {name.split(".")[0] for name in loaded["import"]}
    assert {"jax", "flax"} <= packages
    assert not set(HEAVY) & packages
    assert "scipy.stats" not in loaded["import"]


def test_no_other_room_is_imported(loaded):
    ours = [name for name in loaded["import"] if name.startswith("edl_jax.") and not name.startswith("edl_jax.loss")]
    assert ours == ["edl_jax.core", "edl_jax.core.errors"]


def test_a_loss_that_is_used_and_a_formula_that_is_parsed_load_no_sympy(loaded):
    assert "sympy" not in {name.split(".")[0] for name in loaded["use"]}


@pytest.mark.slow
def test_the_import_takes_little_more_than_that_of_jax_flax_and_optax():
    # Least of several, in turns: other load can only add time.
    times = [(run("import jax, flax, optax")[0], run("import edl_jax.loss")[0]) for _ in range(7)]
    theirs, ours = (min(column) for column in zip(*times, strict=True))
    assert ours <= 1.3 * theirs


def test_public_names_exist_and_are_listed():
    assert sorted(loss.__all__) == loss.__all__
    for name in loss.__all__:
        assert getattr(loss, name).__doc__, name
