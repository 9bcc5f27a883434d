"""Programs of downstream runs that tests compile once."""

import contextlib
import dataclasses

import pytest

from edl_jax.downstream.trainer import Trainers, compile_trainer


class SharedTrainers(Trainers):
    """Trainers that all runs share, as those of several seeds do: what a program depends on is its key."""

    compiled: dict = {}  # noqa: RUF012

    def get(self, config, task):
        data = {"seed": 0, "label_noise": 0.0, "label_noise_kind": "symmetric", "imbalance": 1.0, "val_size": 0}
        program = {"train_size": None, "target_accuracy": None, "checkpoint_every": 1}
        key = (dataclasses.replace(config, **data, **program), task.images.shape, task.loop, task.loss_fn)
        if key not in self.compiled:
            self.compiled[key] = compile_trainer(config, task)
        return self.compiled[key]


@contextlib.contextmanager
def shared_trainers(*modules):
    """Let equal programs of the runs that modules make be compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "Trainers", SharedTrainers)
        yield
