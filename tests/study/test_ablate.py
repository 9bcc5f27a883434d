"""`edl-jax ablate`: from the command to the report, killed and resumed."""

import contextlib
import dataclasses
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from edl_jax.cli import main as cli
from edl_jax.core.config import load_preset
from edl_jax.core.errors import UserError
from edl_jax.pretrain import PretrainConfig, evolve as pretrain
from edl_jax.pretrain.generations import make_evolution
from edl_jax.study.ablate import AblateConfig, figures, run
from edl_jax.study.ablate.factors import FACTORS, cells
from edl_jax.study.ablate.measurement import complete, load, measure

RUN_PY = Path(__file__).parents[2] / "run.py"
# Cells that differ in std alone have one program, that of two runs of `pretrain --config debug`.
EVEN = 20
TINY = f"""
factors: [std]
runs: 2
base:
  generations: {EVEN}
  num_pairs: 64
  held_out_pairs: 128
  es: {{population_size: 16, std: 0.2}}
  network: {{hidden: [8]}}
"""
LEVELS = ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]
CELLS = [f"{i:03d}.npz" for i in range(len(LEVELS))]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment of the commands: they and this process share one compilation cache."""
    found = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    found["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation cache"
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        yield found
        return
    folder = str(tmp_path_factory.mktemp("cache"))
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()
    yield {**found, "JAX_COMPILATION_CACHE_DIR": folder}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    path = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    """Leave figures empty: test_ablation_report.py draws those of this factor."""

    def touch(path, *_, **__):
        path.touch()

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((figures.curves, "convergence"), (figures.curves, "differences")):
            patch.setattr(module, name, touch)
        patch.setattr(figures.sensitivity, "sensitivity", touch)
        yield


@pytest.fixture(scope="module")
def study(environment, preset, tmp_path_factory):
    """A finished study of six cells: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("ablate") / "study"
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main(["ablate", "--config", str(preset), "--out", str(directory)]) == 0
    return directory, out.getvalue()


@pytest.fixture
def copy(study, tmp_path):
    """A copy of the finished study."""
    return Path(shutil.copytree(study[0], tmp_path / "copy"))


def config_of(preset):
    config = load_preset("ablate", str(preset), AblateConfig())
    return dataclasses.replace(config, base=config.base.settled())


def numbers(directory):
    """Return result.json without what depends on the clock: seconds, and what is read at equal time."""

    def kept(value):
        if not isinstance(value, dict):
            return value
        return {k: kept(v) for k, v in value.items() if not ("second" in k or "time" in k or k == "report")}

    found = kept(json.loads((directory / "result.json").read_text()))
    assert found["factors"]["std"]["1"]["test_excess"]["value"] is not None
    return found


def times(directory):
    return {path.name: path.stat().st_mtime_ns for path in (directory / "cells").iterdir()}


def test_a_study_leaves_report_result_figures_and_cells(study):
    directory, out = study
    assert sorted(path.name for path in (directory / "cells").iterdir()) == CELLS
    assert {path.name for path in (directory / "figures").iterdir()} == {
        *(f"std_{kind}.png" for kind in ("evaluations", "time", "spread", "differences")),
        "sensitivity.png",
    }
    result = json.loads((directory / "result.json").read_text())
    assert list(result["factors"]["std"]) == LEVELS
    text = (directory / "report.md").read_text(encoding="utf-8")
    assert "## std (against 0.2)" in text
    assert "| 0.02 | " in text
    first, second, last = out.splitlines()
    assert first.startswith(f"ablate: 6 cells of 2 runs, {6 * EVEN * 2} generations;")
    assert second.startswith("ablate: ")
    assert "for the 5 cells left" in second
    assert last.endswith("report.md")


def test_cells_run_equal_evaluations_and_then_to_equal_time(study, preset):
    directory, _ = study
    config = config_of(preset)
    results = [
        load(directory / "cells" / name, cell.config)
        for name, cell in zip(CELLS, cells(config.base, config.factors), strict=True)
    ]
    for i, found in enumerate(results):
        runs, length = found.fitness_ratio.shape
        assert (runs, found.evaluations_end, found.test_ratio.shape) == (2, EVEN, (2,))
        assert length == EVEN if i == 0 else EVEN <= length <= 4 * EVEN
        assert found.mean_ratio.shape == found.ranking_accuracy.shape == found.population_spread.shape == (2, length)
        # The best so far never rises, and no solution beats the optimum by more than noise.
        assert np.all(np.diff(found.fitness_ratio, axis=1) <= 0.0)
        assert np.all(found.fitness_ratio <= found.mean_ratio)
        assert np.all(found.fitness_ratio > 0.9)
        assert np.all(found.test_ratio > 0.95)
        assert found.seconds > 0.0
    assert len({found.fitness_ratio[:, :EVEN].tobytes() for found in results}) == len(LEVELS)


def test_a_finished_study_is_reported_again_and_nothing_is_redone(copy, preset, capsys):
    before, expected = times(copy), numbers(copy)
    (copy / "report.md").unlink()
    assert cli.main(["ablate", "--config", str(preset), "--out", str(copy), "--resume"]) == 0
    assert times(copy) == before
    assert numbers(copy) == expected
    assert (copy / "report.md").exists()
    assert "for the 0 cells left" in capsys.readouterr().out


@pytest.mark.slow  # test_pretrain_resume.py and test_downstream_resume.py kill runs in the fast tier
def test_killed_and_resumed_keeps_the_finished_cells_and_ends_with_the_same_numbers(
    study, environment, preset, tmp_path
):
    out = tmp_path / "killed"
    line = [sys.executable, str(RUN_PY), "ablate", "--config", str(preset), "--out", str(out)]
    process = subprocess.Popen(
        line, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 240
    while not (out / "cells" / CELLS[0]).exists():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = times(out)
    assert CELLS[0] in before
    assert CELLS[-1] not in before
    assert not (out / "result.json").exists()
    assert cli.main(["ablate", "--config", str(preset), "--out", str(out), "--resume"]) == 0
    after = times(out)
    assert set(CELLS) <= after.keys()
    assert {name: after[name] for name in before} == before
    assert numbers(out) == numbers(study[0])


def test_damaged_and_foreign_cells_are_redone(study, copy, preset):
    before, expected = times(copy), numbers(copy)
    folder = copy / "cells"
    content = (folder / CELLS[1]).read_bytes()
    (folder / CELLS[1]).write_bytes(content[: len(content) // 2])
    shutil.copy(folder / CELLS[0], folder / CELLS[2])
    assert cli.main(["ablate", "--config", str(preset), "--out", str(copy), "--resume"]) == 0
    assert times(copy)[CELLS[0]] == before[CELLS[0]]
    assert numbers(copy) == expected
    config = config_of(preset)
    for name, cell in zip(CELLS, cells(config.base, config.factors), strict=True):
        mine, first = load(folder / name, cell.config), load(study[0] / "cells" / name, cell.config)
        np.testing.assert_array_equal(mine.test_ratio, first.test_ratio)


def test_runs_that_are_added_to_a_cell_leave_its_own_as_they_are(study, preset):
    base = config_of(preset).base
    before = load(study[0] / "cells" / CELLS[0], base)
    assert complete(before, base, base, 2, math.inf) is before
    longer = complete(before, base, base, 4, math.inf)
    # From seed 1 on, the second run is the third from seed 0 on.
    shifted = measure(dataclasses.replace(base, seed=1), base, 2, math.inf)
    for name in ("fitness_ratio", "mean_ratio", "ranking_accuracy", "population_spread", "test_ratio"):
        mine, earlier = getattr(longer, name), getattr(before, name)
        assert mine.shape == (4, *earlier.shape[1:])
        np.testing.assert_array_equal(mine[:2], earlier)
        np.testing.assert_array_equal(mine[2], getattr(shifted, name)[1])
    assert not np.array_equal(longer.fitness_ratio[3], longer.fitness_ratio[2])
    assert longer[5:] == before[5:]


@pytest.mark.slow
def test_runs_are_added_to_a_finished_study(study, copy, preset):
    assert cli.main(["ablate", "--config", str(preset), "--out", str(copy), "--resume", "--runs", "4"]) == 0
    config = config_of(preset)
    for name, cell in zip(CELLS, cells(config.base, config.factors), strict=True):
        longer, before = (load(folder / "cells" / name, cell.config) for folder in (copy, study[0]))
        for mine, earlier in zip(longer[:5], before[:5], strict=True):
            np.testing.assert_array_equal(mine[:2], earlier)
            assert mine.shape == (4, *earlier.shape[1:])
    assert numbers(copy)["factors"]["std"]["1"] != numbers(study[0])["factors"]["std"]["1"]


def flipped(content):
    """Return `content` with bytes of the compressed numbers changed."""
    middle = len(content) // 3
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 64]) + content[middle + 64 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:100],
        lambda content: content[:-30],
        flipped,
        lambda content: b"\x00" * len(content),
        lambda content: b"not an archive",
    ],
    ids=["empty", "start", "cut", "flipped", "zeros", "text"],
)
def test_a_damaged_cell_is_no_result(copy, preset, damage):
    file, base = copy / "cells" / CELLS[0], cells(config_of(preset).base, [])[0].config
    assert load(file, base) is not None
    file.write_bytes(damage(file.read_bytes()))
    assert load(file, base) is None


def test_a_cell_that_lacks_numbers_is_no_result(copy, preset):
    file, base = copy / "cells" / CELLS[0], cells(config_of(preset).base, [])[0].config
    with np.load(file) as stored:
        content = {name: stored[name] for name in stored.files if name != "test_ratio"}
    np.savez(file, **content)
    assert load(file, base) is None


@pytest.mark.parametrize("flags", ["--runs 1", "--base.seed 7", "--factors r", "--base.network.hidden 5"])
def test_resume_refuses_another_config(study, preset, capsys, flags):
    directory, _ = study
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    line = ["ablate", "--config", str(preset), "--out", str(directory), "--resume", *flags.split()]
    assert cli.main(line) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "with another config (config." in err
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_an_existing_study_is_not_overwritten(study, preset, capsys):
    before = times(study[0])
    assert cli.main(["ablate", "--config", str(preset), "--out", str(study[0])]) == 2
    assert "give --resume to continue it" in capsys.readouterr().err
    assert times(study[0]) == before


def test_cells_that_differ_in_noise_have_common_random_numbers(study, preset):
    base = config_of(preset).base
    found = {label: cell.config for cell in cells(base, ["noise"]) for _, label in cell.uses}
    starts = []
    for label in ("gaussian", "logistic"):
        config = found[label]
        program = make_evolution(config, chunk=1)
        search, inputs = program.init(jax.vmap(jax.random.key)(jnp.arange(2)))
        arrays = (search.best, search.strategy.mean, jax.random.key_data(inputs.key), *inputs.held_out[1:])
        starts.append([np.asarray(x) for x in arrays])
    for a, b in zip(*starts, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a[0], a[1])  # seeds differ


def test_a_cheaper_cell_is_followed_to_the_time_of_the_base_but_not_without_end(study, preset):
    base = config_of(preset).base
    stored = load(study[0] / "cells" / CELLS[0], base)
    for budget, length in ((0.0, EVEN), (1e6, 4 * EVEN)):
        found = measure(base, base, 2, budget)
        assert (found.fitness_ratio.shape, found.evaluations_end) == ((2, length), EVEN)
        np.testing.assert_array_equal(found.fitness_ratio[:, :EVEN], stored.fitness_ratio)
        np.testing.assert_array_equal(found.test_ratio, stored.test_ratio)


def test_cells_that_differ_in_std_share_one_compiled_program(study, preset, compilations):
    base = config_of(preset).base
    with compilations() as counts:
        found = measure(dataclasses.replace(base, es=dataclasses.replace(base.es, std=0.3)), base, 2, 0.0)
    assert not {name: count for name, count in counts.items() if "evolve" in name or "init" in name}
    stored = load(study[0] / "cells" / CELLS[0], base)
    assert np.all(found.population_spread[:, 0] > 1.4 * stored.population_spread[:, 0])  # of 0.2


@pytest.mark.slow
def test_the_base_cell_is_what_pretrain_does(study, preset, tmp_path):
    directory, _ = study
    base = config_of(preset).base
    stored = load(directory / "cells" / CELLS[0], base)
    result = pretrain.run(base, out=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([row["fitness_ratio"] for row in rows], stored.fitness_ratio[0], rtol=1e-5)
    np.testing.assert_allclose(result["fitness_ratio"], stored.test_ratio[0], rtol=1e-5)


# What is refused.


def test_a_level_that_the_base_does_not_allow_is_refused_before_anything_is_written(tmp_path):
    config = AblateConfig(factors=("std", "num_pairs"), base=PretrainConfig(reuse=40))
    with pytest.raises(UserError, match="factor num_pairs, level 64: reuse is 40"):
        run(config, out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("name", ["default", "debug"])
def test_presets(name):
    config = load_preset("ablate", name, AblateConfig())
    assert len(cells(config.base, config.factors)) > len(config.factors)
    if name == "default":
        assert config.factors == tuple(FACTORS)
        assert config.runs >= 10
