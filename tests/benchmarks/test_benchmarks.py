"""The throughput benchmark: PyTorch does what ours does, and every part runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from edl_jax.loss import NetworkConfig
from edl_jax.loss.networks.kinds import init as init_network
from edl_jax.pretrain import PretrainConfig, objective
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic import MixtureConfig

ROOT = Path(__file__).parents[2]
MEMBERS = 11
draw = jax.jit(objective.draw, static_argnums=(1, 2))
fitness = jax.jit(objective.fitness, static_argnums=0)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def torch_pretrain(torch, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return pytest.importorskip("torch_pretrain")


def population(network):
    """Return (`[P, D]` members, their parameters)."""
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    params = jax.vmap(lambda key: init_network(key, network))(keys)
    return jax.vmap(lambda x: ravel_pytree(x)[0])(params), params


@pytest.mark.parametrize("way", ["vectorised", "blocks", "loop"])
@pytest.mark.parametrize(
    ("num_classes", "hidden", "reuse", "beta", "margin"),
    [(10, (16, 16), 1, 1.0, 0.0), (2, (16, 16), 1, 10.0, 1.0), (5, (8,), 3, 1.0, 0.5)],
)
def test_torch_has_the_same_fitness(torch, torch_pretrain, way, num_classes, hidden, reuse, beta, margin):
    config = PretrainConfig(
        num_classes=num_classes,
        num_pairs=96,
        reuse=reuse,
        beta=beta,
        margin=margin,
        network=NetworkConfig(hidden=hidden),
        evaluation="plain",
    )
    task = config
    batch = draw(jax.random.key(1), task, config.num_pairs)
    label = int(batch.labels[0])
    assert np.all(np.asarray(batch.labels) == label)
    members, params = population(task.network)
    expected, losses = fitness(task, params, batch)

    # Ours has one label, whichever; PyTorch's is 0. The loss is invariant under permutation of classes.
    order = [label, *(c for c in range(num_classes) if c != label)]
    predictions = torch_pretrain.batch_of(torch.tensor(np.asarray(batch.log_p)[:, order]))
    found = torch_pretrain.WAYS[way](torch.tensor(np.asarray(members)), predictions, hidden)
    np.testing.assert_allclose(found, losses[:, 0], rtol=1e-5, atol=1e-5)
    scores = torch_pretrain.fitness(found, predictions.severity, reuse=reuse, beta=beta, margin=margin)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "mixture",
    [MixtureConfig(), MixtureConfig(1, 1, 1, 1, 1, 0, 1, confidence=10.0, designed_log_p=(-6.0, -1.0, -0.5, 0.0))],
)
def test_torch_draws_the_same_mixture(torch, torch_pretrain, mixture):
    torch.manual_seed(0)
    count, num_classes = 20_000, 5
    task = PretrainConfig(num_classes=num_classes, mixture=mixture, evaluation="plain")
    ours = draw(jax.random.key(0), task, count)
    log_p = torch_pretrain.draw(mixture, num_classes, count, "cpu").numpy()
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, rtol=1e-5)
    expected = np.take_along_axis(np.asarray(ours.log_p), np.asarray(ours.labels)[:, None], axis=1)[:, 0]
    assert stats.ks_2samp(log_p[:, 0], expected).statistic < 0.02
    # The strongest wrong class, which the rival's concentration decides.
    wrong = jnp.where(jnp.arange(num_classes)[None] == ours.labels[:, None], -jnp.inf, ours.log_p)
    assert stats.ks_2samp(log_p[:, 1:].max(axis=1), np.asarray(wrong.max(axis=1))).statistic < 0.02


@pytest.mark.parametrize("fresh", [True, False])
def test_torch_evolves(torch, torch_pretrain, fresh):
    torch.manual_seed(0)
    network = NetworkConfig(hidden=(8,))
    task = PretrainConfig(num_classes=4, num_pairs=128, network=network)
    # The network that ranks well or badly by chance is turned round until it ranks badly.
    start = torch.tensor(np.asarray(population(network)[0][0]))
    es = StrategyConfig(population_size=32)
    search = torch_pretrain.Evolution(task, es, start, "loop", fresh=fresh)

    def score(mean):
        losses = torch_pretrain.loop(mean[None], search.batch, network.hidden)
        return float(torch_pretrain.fitness(losses, search.batch.severity, reuse=1, beta=1.0, margin=0.0))

    last = slice(-9, None)  # the output layer
    if score(search.mean) < np.log(2.0):
        search.mean[last] *= -1.0
    assert score(search.mean) > np.log(2.0)
    search.run(40)
    assert score(search.mean) < 0.45
    assert search.std == pytest.approx(es.std * es.std_decay**40)


@pytest.mark.slow
def test_every_part_of_the_benchmark_runs(tmp_path):
    command = [sys.executable, "benchmarks/pretrain_throughput.py", "--quick", "--out", str(tmp_path)]
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        **os.environ,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "throughput.json").read_text(encoding="utf-8"))
    rates = found["throughput"]["ms"]
    assert {"ours, tabulated", "ours, tabulated, search alone", "evosax, open_es"} <= set(rates)
    assert all(min(ms) > 0.0 for ms in rates.values())
    reached = found["marks"]["default"]["marks"]["99 % accuracy"]["generations"]
    assert len(reached) == 1
    assert set(found["scaling"]["population"][0]["ms"]) >= {"tabulated", "plain"}
    assert "| default | 99 % accuracy |" in done.stdout
    assert (tmp_path / "throughput.png").stat().st_size > 10_000
