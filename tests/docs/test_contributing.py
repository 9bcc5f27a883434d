"""The additions that docs/contributing.md shows work: the file as it stands, the line in its registry."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import data, loss, models, strategies
from edl_jax.data import registry as data_registry
from edl_jax.loss.zoo import catalogue
from edl_jax.models import registry as model_registry
from edl_jax.strategies import maps, registry as strategy_registry
from edl_jax.strategies.maps import formulas

PAGE = (Path(__file__).parent.parent.parent / "docs" / "contributing.md").read_text(encoding="utf-8")


@pytest.fixture
def add(monkeypatch):
    """Return a function that adds what a section shows to the registry of a module, and returns its name."""

    def from_section(title, module, registry):
        section = PAGE.split(f"## Add a {title}\n")[1].split("\n## ")[0]
        *file, line = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
        namespace = dict(vars(module))
        exec(compile("\n".join(file), f"docs/contributing.md, {title}", "exec"), namespace)  # our own page
        ((name, entry),) = eval(f"{{{line}}}", namespace).items()  # noqa: S307 -- likewise
        monkeypatch.setitem(registry, name, entry)
        return name

    return from_section


def test_loss(add):
    name = add("loss", catalogue, catalogue.ZOO)
    logits = jax.random.normal(jax.random.key(0), (8, 3))
    labels = jnp.arange(8) % 3
    p_t = jax.nn.softmax(logits)[jnp.arange(8), labels]
    np.testing.assert_allclose(loss.get(name)(logits, labels), 2 * (1 - jnp.sqrt(p_t)), rtol=1e-5)
    assert name in loss.names()


def test_map(add):
    name = add("chaotic map", formulas, maps.FAMILIES)
    formula = maps.FAMILIES[name].build(maps.FAMILIES[name].standard)
    orbit = formula.start(np.random.default_rng(0), 100)
    stretch = np.zeros(100)
    for _ in range(1000):
        stretch += np.log(np.abs(formula.tangent(orbit, 1.0)))
        orbit = formula.step(orbit)
    assert (orbit > 0.0).all()
    assert (orbit < 1.0).all()
    assert stretch.mean() / 1000 > 0.5  # the Lyapunov exponent: chaos
    assert name in maps.names()


def test_strategy(add):
    name = add("strategy", strategy_registry, strategy_registry.STRATEGIES)
    algorithm, params = strategies.create(name, jnp.zeros(3), strategies.StrategyConfig(population_size=8))
    state = algorithm.init(jax.random.key(0), jnp.ones(3), params)
    with jax.numpy_rank_promotion("allow"):  # evosax promotes
        population, state = algorithm.ask(jax.random.key(1), state, params)
        state, _ = algorithm.tell(jax.random.key(2), population, jnp.sum(population**2, axis=-1), state, params)
    np.testing.assert_allclose(jnp.abs(state.mean - 1.0), 0.1 * strategies.StrategyConfig().std, rtol=1e-4)


def test_model(add):
    name = add("model", model_registry, model_registry._MODELS)
    module = models.create(name, 10)
    images = jnp.zeros((2, 8, 8, 1))
    variables = module.init(jax.random.key(0), images, train=False)
    assert module.apply(variables, images, train=False).shape == (2, 10)


def test_data_set(add):
    name = add("data set", data_registry, data_registry.SPECS)
    assert name in data.names()
    assert data_registry.spec(name).num_classes == 10
