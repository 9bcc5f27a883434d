"""Directories of finished searches, and data whose test images no one may read."""

import dataclasses
import json

from edl_jax import data, loss


class Unreadable:
    """Test images that no one may read."""

    def __getattr__(self, name):
        raise AssertionError(f"a stage has read {name} of the test set")


def digits():
    """Return the digits without their test part."""
    return dataclasses.replace(data.load("digits"), test_images=Unreadable(), test_labels=Unreadable())


def make_search(path, formulas, *, method="evomal", finished=True, metadata=None):
    """Write what a search leaves behind that found these formulas, the best first; return its directory."""
    (path / "losses").mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"command": "search", "config": {"method": method}}))
    winners = []
    for rank, formula in enumerate(formulas, 1):
        file = path / ("loss.safetensors" if rank == 1 else f"losses/{rank}.safetensors")
        loss.save(loss.FormulaArtifact.from_formula(formula, metadata), file)
        winners.append({"fitness": 0.1 * rank, "artifact": str(file)})
    if finished:
        (path / "result.json").write_text(json.dumps({"method": method, "winners": winners}))
    return path
