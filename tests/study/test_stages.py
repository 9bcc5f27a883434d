"""Stages: their text, equal conditions for all losses, what is kept of a stage that was stopped."""

import dataclasses
import json
import math
import sys

import numpy as np
import pytest
from stage_cases import digits

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.core.stopping import Stop, Stopped
from edl_jax.search.tables import LOG_P
from edl_jax.study.candidates import Candidate
from edl_jax.study.stages import Stage, train


@pytest.mark.parametrize(
    "text",
    [
        "linear:steps=500",
        "convnet:steps=300,batch_size=64,optimizer=adam,schedule=cosine,warmup=0.1,dropout=on,survivors=25",
        "resnet9v2:steps=300,image_size=32,rand_augment=5,train_size=5000,validation=0.2,stop_error=0.7",
        "resnet8:epochs=2,optimizer=adamw,lr=0.001,crop_flip=off,rand_augment=8,train_size=20000,survivors=3",
        "lenet5:steps=10",
        "lenet5:epochs=1",
    ],
)
def test_a_stage_is_its_text(text):
    stage = Stage.parse(text)
    assert Stage.parse(str(stage)) == stage
    assert {*str(stage).partition(":")[2].split(",")} == {*text.partition(":")[2].split(",")}
    assert (stage.student is None) == ("epochs" in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rsnet8:epochs=1", "unknown architecture 'rsnet8': did you mean resnet8"),
        ("resnet8", "'resnet8' has no epochs"),
        ("linear:step=3", "unknown key of stage 'linear:step=3': 'step': did you mean steps"),
        ("linear:epochs=3", "unknown key of stage 'linear:epochs=3': 'epochs'"),
        ("linear:steps=3,steps=4", "has steps twice"),
        ("linear:steps", "'steps' is not of the form key=value"),
        ("linear:steps=many", "steps is 'many', expected int"),
        ("linear:steps=0", "stage 'linear:steps=0': steps is 0, expected at least 1"),
        ("linear:rand_augment=3", "expected 0 for linear"),
        ("linear:survivors=0", "survivors is 0, expected at least 1 loss"),
        ("linear:survivors=2.5", "survivors is 2.5, expected a whole number"),
        ("linear:validation=2", "validation is 2.0, expected a share"),
        ("resnet8:epochs=1,stop_error=0.5", "stop_error is 0.5, expected a positive error, of a stage that has steps"),
        ("resnet8:epochs=1,rand_augment=99", "expected a number of operations and a magnitude in 0..30"),
    ],
)
def test_a_stage_that_is_none_is_refused_in_a_line(text, message):
    with pytest.raises(UserError) as caught:
        Stage.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


ENTROPY = np.stack([np.zeros_like(LOG_P), -np.ones_like(LOG_P)])


def candidate(name, table):
    return Candidate(name, name, loss.artifact_of("cross_entropy"), table.astype(np.float32))


@pytest.fixture(scope="module")
def losses():
    """Return more losses than a chunk holds: cross-entropy, first and last, weaker ones, one up, one that is not."""
    weaker = [candidate(f"{i}", 0.7**i * ENTROPY) for i in range(1, 17)]
    others = [candidate("up", -0.003 * ENTROPY), candidate("nan", np.nan * ENTROPY)]
    return [candidate("first", ENTROPY), *others, *weaker, candidate("last", ENTROPY)]


STUDENTS = Stage.parse("mlp_small:steps=100,lr=0.05,batch_size=32")


class StopAfter(Stop):
    """A stop that is asked for once so much is done."""

    def __init__(self, done):
        super().__init__()
        self._done = done

    def check(self, after=""):
        if after.startswith(self._done):
            self.request()
        super().check(after)


def untimed(results):
    return [result._replace(seconds=0.0) for result in results]


def test_students_of_a_stage_train_alike_and_what_is_done_is_kept(tmp_path, losses):
    said = []
    whole = train(STUDENTS, losses, digits(), seed=0, directory=tmp_path / "whole", report=said.append)
    found = {result.name: result for result in whole}
    assert list(found) == [each.name for each in losses]
    # Of another chunk, from the same first weights on the same batches.
    assert found["first"][1:4] == found["last"][1:4]
    assert found["first"].error < found["16"].error
    assert found["first"].error < 0.5
    assert (found["up"].steps, found["first"].steps) == (50, 100)
    assert 0.8 < found["up"].error <= 1.0
    assert (found["nan"].error, found["nan"].loss, found["nan"].steps) == (math.inf, math.inf, 50)
    assert any("step 100" in what for what in said)

    with pytest.raises(Stopped):
        train(STUDENTS, losses, digits(), seed=0, directory=tmp_path / "s", stop=StopAfter("16 of 20 losses"))
    kept = (tmp_path / "s" / "results.jsonl").read_text().splitlines()
    assert len(kept) == 16
    (tmp_path / "s" / "results.jsonl").write_text("\n".join([*kept[:-1], kept[-1][:20]]))  # cut by a kill
    again = train(STUDENTS, losses, digits(), seed=0, directory=tmp_path / "s")
    assert untimed(again) == untimed(whole)
    said.clear()
    assert train(STUDENTS, losses, digits(), seed=0, directory=tmp_path / "s", report=said.append) == again
    assert not said


def test_a_directory_is_of_one_stage(tmp_path, losses):
    few = [losses[0], losses[3]]
    stage = dataclasses.replace(STUDENTS, student=dataclasses.replace(STUDENTS.student, steps=1))
    train(stage, few, digits(), seed=0, directory=tmp_path / "s")
    train(dataclasses.replace(stage, survivors=1), few, digits(), seed=0, directory=tmp_path / "s")
    for changed, message in (
        ({"seed": 1}, "its seed is not what it began with: 0 -> 1"),
        ({"stage": STUDENTS}, "its stage is not what it began with: mlp_small:"),
        ({"candidates": few[:1]}, "its candidates is not what it began with"),
    ):
        arguments = {"stage": stage, "candidates": few, "dataset": digits(), "seed": 0, **changed}
        with pytest.raises(UserError, match=message):
            train(**arguments, directory=tmp_path / "s")
    with pytest.raises(UserError, match="two candidates are called first"):
        train(stage, [few[0], few[0]], digits(), seed=0, directory=tmp_path / "t")
    with pytest.raises(UserError, match="images are 8x8 pixels, expected 16x16"):
        train(Stage.parse("mlp_small:image_size=16"), few, digits(), seed=0, directory=tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_downstream_runs_of_a_stage_read_no_test_image(tmp_path):
    stage = Stage.parse("mlp:epochs=2,batch_size=32,lr=0.1,train_size=400")
    steep = loss.FormulaArtifact.from_formula("-1e30*y*ln(p)")
    plain = loss.FormulaArtifact.from_formula("-y*ln(p)")
    candidates = [Candidate("a1", "plain", plain, ENTROPY), Candidate("a/2", "steep", steep, 1e30 * ENTROPY)]
    directory = tmp_path / "s"
    found, diverged = train(stage, candidates, digits(), seed=0, directory=directory)
    assert (diverged.name, diverged.error, diverged.loss) == ("a/2", math.inf, math.inf)
    assert sorted(path.name for path in directory.iterdir()) == [
        *("a-2", "a1", "losses", "results.jsonl", "stage.json")
    ]
    rows = [json.loads(line) for line in (directory / "a1" / "metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["val_accuracy"])
    assert (found.error, found.loss, found.steps) == (1.0 - best["val_accuracy"], best["val_nll"], 2 * (360 // 32))
    assert best["val_accuracy"] == best["test_accuracy"]
    result = json.loads((directory / "a1" / "result.json").read_text())
    assert (result["train_size"], result["val_size"]) == (360, 40)
    # A run that ended before its result was kept is not made again.
    (directory / "results.jsonl").unlink()
    assert train(stage, candidates, digits(), seed=0, directory=directory)[0] == found


def test_a_repetition_may_have_the_split_of_the_first_training(tmp_path, losses, monkeypatch):
    """Its seed is that of first weights and batches alone."""
    module, seeds = sys.modules[train.__module__], []
    split = module.split

    def recorded(dataset, seed, **keywords):
        seeds.append(seed)
        return split(dataset, seed, **keywords)

    monkeypatch.setattr(module, "split", recorded)
    stage = Stage.parse("mlp_small:steps=3")
    for name, options in (("own", {"seed": 4}), ("first", {"seed": 5, "split_seed": 4})):
        train(stage, losses[:1], digits(), directory=tmp_path / name, **options)
    assert seeds == [4, 4]
    with pytest.raises(UserError, match="its split seed is not what it began with: 4 -> 5"):
        train(stage, losses[:1], digits(), directory=tmp_path / "first", seed=5)
