"""Chaotic maps: measured on long orbits as `advance` emits them, in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from map_cases import LAWS, MAPS, emit, float64_law, henon, moments
from scipy import stats

from edl_jax.core.errors import UserError
from edl_jax.strategies import ChaoticMap, logistic, maps
from edl_jax.strategies.maps import dither, law

# The default, one of two states, and one whose orbits die without the dither; the others in the long check.
FAST = ("logistic", "henon", "tent")
every_map = pytest.mark.parametrize("name", maps.names())
# One whose law has a closed form, one with a map of the plane: what the maps share is tried with these.
TWO = ("logistic", "henon")
two_maps = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in TWO else pytest.mark.slow) for name in maps.names()]
)


@pytest.fixture(
    scope="module",
    params=[(name, 4_000) for name in FAST]
    + [pytest.param((name, 50_000), marks=pytest.mark.slow) for name in maps.names()],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def emitted(request):
    """Return (name of the map, log growth `[steps, orbits]`, noise `[steps, orbits]`)."""
    return request.param[0], *emit(*request.param)


def test_lyapunov_exponent_of_emitted_orbits(emitted):
    name, growth, _ = emitted
    exponents = np.mean(growth, axis=0, dtype=np.float64)
    expected = float64_law(name)[1]
    assert np.mean(exponents) == pytest.approx(expected, rel=0.05)
    room = 0.1 * max(1.0, np.sqrt(10_000 / len(growth)))
    assert np.all(np.abs(exponents - expected) < room)  # every orbit, not their mean alone
    assert maps.get(name).lyapunov == pytest.approx(expected, rel=0.01)


def test_noise_has_zero_mean_and_unit_variance(emitted):
    name, _, noise = emitted
    mean, variance, product = moments(noise)
    assert abs(mean) <= 0.01
    assert abs(variance - 1.0) <= 0.02
    assert product == pytest.approx(maps.get(name).autocorrelation, abs=0.005)
    by_time = np.mean(noise.reshape(-1, 500, noise.shape[1]), axis=(1, 2))
    assert np.all(np.abs(by_time) < 0.03)
    assert np.all(np.abs(np.var(noise, axis=0) - 1.0) < 0.15)  # for every orbit


def test_no_orbit_dies_or_merges(emitted):
    name, growth, noise = emitted
    assert np.all(np.isfinite(growth))
    assert np.all(np.isfinite(noise))
    window = noise[-400:]
    assert np.all(np.std(window, axis=0) > 0.5)  # a dead orbit would be constant
    assert len(np.unique(window[-1])) >= 0.99 * window.shape[1]
    drawn = np.random.default_rng(1).permutation(float64_law(name)[0].ravel())[: window.size]
    drawn = np.asarray(maps.get(name).noise(jnp.asarray(drawn, jnp.float32)))  # the same float32 arithmetic
    assert len(np.unique(window)) >= 0.9 * len(np.unique(drawn))


def test_orbits_are_independent_of_each_other(emitted):
    correlation = np.corrcoef(emitted[2][-400::4].T)
    off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
    assert abs(np.mean(off_diagonal)) < 0.001
    assert np.max(np.abs(off_diagonal)) < 0.65  # 131,000 pairs of 100 values: 6 standard deviations


@every_map
def test_constants_are_those_of_the_float64_law(name):
    x = float64_law(name)[0]
    chaotic = maps.get(name)
    assert chaotic.mean == pytest.approx(np.mean(x), abs=0.005 * np.std(x))
    assert chaotic.std == pytest.approx(np.std(x), rel=0.005)
    centred = x - np.mean(x)
    if name not in LAWS:
        assert chaotic.autocorrelation == pytest.approx(np.mean(centred[1:] * centred[:-1]) / np.var(x), abs=0.005)


def next_states(name, count=20_000):
    """Return (state, the state after one step by the library, and by the float64 formula), first coordinates."""
    chaotic = maps.get(name)
    state = chaotic.init(jax.random.key(2), (count,))
    after = chaotic.advance(jax.random.key(3), state)
    double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    expected = henon(double, double)[0][0] if name == "henon" else MAPS[name][0](double, np)
    return np.asarray(jax.tree.leaves(after)[0], np.float64), expected


@every_map
def test_every_step_is_the_map_but_for_the_dither(name):
    """No state is re-seeded: each is where the map leads, to within the dither."""
    after, expected = next_states(name)
    added, turned = 2.0**-20, 2.0**-10
    reach = {"gauss": 1e-3, "chebyshev": turned, "logistic": turned, "sine": turned}.get(name, added)
    share = np.mean(np.abs(after - expected) > reach + 1e-6)
    assert share <= (1e-3 if name == "gauss" else 0.0)  # a float32 1/x is coarse at small x
    assert np.mean(after != expected) > 0.9


@pytest.mark.parametrize(
    ("name", "control"),
    [
        pytest.param(name, control, marks=[] if control == "none" or name in TWO else pytest.mark.slow)
        for name in maps.names()
        for control in ("none", "independent")
    ],
)
def test_states_follow_the_invariant_law(name, control):
    """From the first state on, and later; first states are drawn alike under both controls."""
    chaotic = maps.get(name, control=control)
    state = chaotic.init(jax.random.key(1), (20_000,))
    drawn = np.random.default_rng(2).permutation(float64_law(name)[0].ravel())[:200_000]
    for step in range(4):
        x = np.asarray(jax.tree.leaves(state)[0], np.float64)
        assert stats.ks_2samp(x, drawn).pvalue > 1e-4
        assert len(np.unique(x)) > 0.97 * x.size
        # Nor do orbits start side by side.
        close = [np.mean(np.diff(np.sort(values)) < 3e-6) for values in (x, drawn[: x.size])]
        assert close[0] < 1.3 * close[1] + 0.01
        state = chaotic.advance(jax.random.key(step), state)


@two_maps
def test_independent_draws_have_the_law_but_no_memory(name):
    _, noise = emit(name, 2_000, "independent")
    mean, variance, product = moments(noise)
    assert abs(mean) <= 0.01
    assert abs(variance - 1.0) <= 0.02
    assert abs(product) <= 0.005
    assert abs(moments(noise**2 - 1.0)[2]) < 0.005  # nor of the squares
    chaotic = maps.get(name, control="independent")
    assert (chaotic.lyapunov, chaotic.autocorrelation) == (None, 0.0)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "logistic" else pytest.mark.slow) for name in maps.names()]
)
def test_normal_marginals_keep_the_orbit_and_change_its_law(name):
    orbit, normal = maps.get(name), maps.get(name, control="normal_marginals")
    state = normal.init(jax.random.key(1), (20_000,))
    jax.tree.map(np.testing.assert_array_equal, state, orbit.init(jax.random.key(1), (20_000,)))
    for step in range(3):
        z = np.asarray(normal.noise(state), np.float64)
        assert stats.kstest(z, "norm").pvalue > 1e-4
        rank = stats.norm.cdf(z)[np.argsort(jax.tree.leaves(state)[0])]
        assert np.all(np.diff(rank) >= -1e-6)  # a growing function of the orbit
        state = normal.advance(jax.random.key(step), state)
    mean, variance, product = moments(emit(name, 2_000, "normal_marginals")[1])
    assert abs(mean) <= 0.01
    assert abs(variance - 1.0) <= 0.02
    remembers = {"mouse": -0.65, "henon": -0.43, "gauss": -0.36}
    assert product == pytest.approx(remembers.get(name, 0.05), abs=0.01 if name in remembers else 0.06)
    assert normal.lyapunov == orbit.lyapunov


@pytest.mark.parametrize("control", maps.CONTROLS)
@two_maps
def test_states_keep_their_shape_and_type(name, control):
    chaotic = maps.get(name, control=control)

    def run(shape):
        first = chaotic.init(jax.random.key(0), shape)
        after = chaotic.advance(jax.random.key(1), first)
        return first, after, chaotic.noise(after)

    for shape in [(0, 3), (), (3, 5)]:
        leaves = jax.tree.leaves(jax.eval_shape(lambda shape=shape: run(shape)))
        assert {(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves} == {(shape, jnp.dtype(jnp.float32), False)}


@two_maps
def test_batches_of_keys(name):
    chaotic = maps.get(name)
    batch = jax.vmap(lambda key: chaotic.noise(chaotic.init(key, (5,))))(jax.random.split(jax.random.key(2), 3))
    assert len(np.unique(batch)) == 15


def test_dither_is_uniform_and_never_zero():
    d = np.asarray(dither.draw(jax.random.key(0), (401, 501)), np.float64)
    assert stats.kstest(d[:40, :].ravel(), stats.uniform(-1, 2).cdf).pvalue > 1e-4
    assert np.all(d != 0.0)
    assert np.max(np.abs(d)) < 1.0
    assert abs(np.corrcoef(d.ravel()[::2][:-1], d.ravel()[1::2])[0, 1]) < 0.02  # halves of one word


def test_dithers_stay_inside():
    x, d = np.array([0.0, 0.0, 0.5, 1.0, 1.0]), np.array([-1.0, 1.0, 1.0, 1.0, -1.0])
    tiny = 2.0**-20
    np.testing.assert_array_equal(dither.add_in_unit(x, d), [tiny, tiny, 0.5 + tiny, 1.0 - tiny, 1.0 - tiny])
    for values, low in ((dither.turn_in_unit(x, d), 0.0), (dither.turn(2.0 * x - 1.0, d), -1.0)):
        assert np.all((values >= low) & (values <= 1.0))


def test_turning_is_a_small_turn():
    angle = np.linspace(-0.1, 1.7, 1001)
    d = np.random.default_rng(0).uniform(-1.0, 1.0, angle.size)
    turned = angle + dither.TURNED * d
    np.testing.assert_allclose(
        dither.turn_in_unit(np.sin(angle[56:900]) ** 2, d[56:900]), np.sin(turned[56:900]) ** 2, atol=1e-9
    )
    inside = angle > 0.0
    np.testing.assert_allclose(dither.turn(np.cos(angle[inside]), d[inside]), np.cos(turned[inside]), atol=1e-9)


def test_polynomials_of_the_closed_forms():
    x = np.linspace(-0.5, 0.5, 10_001)
    np.testing.assert_allclose(law.sin_pi(x), np.sin(np.pi * x), atol=1e-10)
    assert np.all(law.sin_pi(x) < 1.0)  # above it, orbits of the sine map would leave
    u = np.linspace(0.001, 0.999, 999)
    for closed in (law.uniform(), law.arcsine(), law.arcsine_in_unit(), law.gauss_kuzmin()):
        x = closed.quantile(jnp.asarray(u, jnp.float32))
        np.testing.assert_allclose(stats.norm.cdf(closed.normal(x)), u, atol=1e-4)


@pytest.mark.parametrize(("name", "r"), [("chebyshev", 2), ("chebyshev", 3), ("chebyshev", 8)])
def test_chebyshev_polynomials(name, r):
    angle = np.linspace(0.0, np.pi, 101)
    np.testing.assert_allclose(maps.get(name, r).step(np.cos(angle)), np.cos(r * angle), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "r"),
    [("logistic", 3.6)]
    + [
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            ("tent", 1.5),
            ("henon", 1.2),
            ("logistic", 3.99),
            ("tent", 1.3),
            ("mouse", 9.0),
            ("sine", 0.95),
            ("chebyshev", 3),
            ("chebyshev", 8),
        )
    ],
)
def test_noise_is_standard_at_other_parameters(name, r):
    chaotic = maps.get(name, r)

    @jax.jit
    def run(key):
        def advance(state, key):
            state = chaotic.advance(key, state)
            z = chaotic.noise(state)
            return state, jnp.stack([jnp.mean(z), jnp.mean(z * z)])

        state = chaotic.init(jax.random.fold_in(key, 1), (2_000,))
        return jnp.mean(jax.lax.scan(advance, state, jax.random.split(key, 500))[1], axis=0)

    mean, square = run(jax.random.key(1))
    assert abs(mean) <= 0.01
    assert abs(square - mean**2 - 1.0) <= 0.02


def test_closed_forms_and_equal_requests():
    chaotic = logistic()
    assert (chaotic.name, chaotic.r, chaotic.control) == ("logistic", 4.0, "none")
    assert chaotic is maps.get("logistic", 4) is maps.get("logistic")  # a static argument of jitted functions
    assert isinstance(chaotic, ChaoticMap)
    assert maps.get("tent", 1.9).lyapunov == np.log(1.9)
    assert maps.names() == ["chebyshev", "gauss", "henon", "logistic", "mouse", "sine", "tent"]
    assert list(maps.CONTROLS) == ["none", "independent", "normal_marginals"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("logistic", 4.1), "logistic map: r is 4.1, expected 0 < r <= 4"),
        (("logistic", 0.0), "logistic map: r is 0"),
        (("logistic", float("nan")), "logistic map: r is nan"),
        (("logistic", 3.83), "logistic map: r = 3.83 lies in a periodic window"),
        (("logistic", 2.5), "logistic map: r = 2.5 lies in a periodic window"),
        (("logistic", 3.57), "logistic map: r = 3.57 lies in a periodic window or at its edge"),
        (("tent", 2.1), "tent map: r is 2.1, expected 1 < r <= 2 (r is the slope, usually 2)"),
        (("tent", 1.0), "tent map: r is 1,"),
        (("tent", 1.001), "tent map: r = 1.001 lies in a periodic window or at its edge"),
        (("gauss", 1.0), "gauss map: r is 1.0, but this map has no parameter: leave r out"),
        (("mouse", float("inf")), "mouse map: r is inf, expected 0 < r <= 100"),
        (("mouse", 20.0), "mouse map: r = 20 lies in a periodic window"),
        (("henon", 1.5), "henon map: at r = 1.5 orbits leave for infinity: choose r = 1.4"),
        (("henon", 1.3), "henon map: r = 1.3 lies in a periodic window"),
        (("sine", 1.2), "sine map: r is 1.2, expected 0 < r <= 1"),
        (("sine", 0.5), "sine map: r = 0.5 lies in a periodic window"),
        (("chebyshev", 2.5), "chebyshev map: r is 2.5, expected 2 <= r <= 8, whole"),
        (("chebyshev", 1), "chebyshev map: r is 1, expected 2 <= r <= 8, whole"),
        (("logstic",), "unknown chaotic map 'logstic': did you mean logistic?"),
        (("tent", None, "indepndent"), "unknown control 'indepndent': did you mean independent?"),
    ],
)
def test_parameters_that_cannot_be_used(arguments, message):
    with pytest.raises(UserError) as caught:
        maps.get(*arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
