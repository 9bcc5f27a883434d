"""Programs that are compiled once, and the run that most tests look at."""

import contextlib
import functools

import jax
import pytest
from downstream_cases import SMALL, run
from program_cases import SharedTrainers, shared_trainers

from edl_jax import training
from edl_jax.downstream import seeds, single
from edl_jax.plot import classifier


@pytest.fixture(scope="session", autouse=True)
def shared_programs():
    """Equal programs are compiled once; a test of compilation itself asks for `own_programs`."""
    with shared_trainers(seeds, single), pytest.MonkeyPatch.context() as patch:
        compile_report, known = training.compile_report, {}

        @functools.wraps(compile_report)
        def shared(model, prepare, variables, batch):
            # `prepare` is that of digits in all tests but one, whose number of classes makes another model.
            key = (model, jax.tree.structure(variables), *(leaf.shape for leaf in batch))
            if key not in known:
                known[key] = compile_report(model, prepare, variables, batch)
            return known[key]

        patch.setattr(training, "compile_report", shared)
        yield


@pytest.fixture
def own_programs():
    """Return a context manager in which every run compiles what it needs."""

    @contextlib.contextmanager
    def unshared():
        with pytest.MonkeyPatch.context() as patch:
            for module in (seeds, single):
                patch.setattr(module, "Trainers", SharedTrainers.__base__)
            yield

    return unshared


@pytest.fixture
def no_figures(monkeypatch):
    """Nothing is drawn: a figure takes as long as a training."""
    monkeypatch.setattr(classifier, "draw", lambda *_, **__: None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """An uninterrupted run of SMALL: its directory and result."""
    directory = tmp_path_factory.mktemp("downstream") / "run"
    return directory, run(SMALL, out=directory)
