import jax
import numpy as np
import pytest
from matplotlib.image import imread

from edl_jax import loss
from edl_jax.loss import NetworkConfig
from edl_jax.loss.networks.kinds import init
from edl_jax.loss.networks.table import params_of
from edl_jax.plot import pretraining as figures
from edl_jax.synthetic import MixtureConfig

SIZES = {
    "convergence.png": (504, 1344, 4),
    "loss_shape.png": (504, 1344, 4),
    "gradient_profile.png": (504, 672, 4),
    "mixture.png": (504, 1344, 4),
}
COLOURS = {
    "convergence.png": (figures.BLUE, figures.ORANGE),
    "loss_shape.png": (figures.BLUE, figures.ORANGE),
    "gradient_profile.png": (figures.BLUE, figures.ORANGE),
    "mixture.png": (figures.BLUE, figures.GREEN),
}
# Where the optimum is drawn.
OPTIMUM = ("convergence.png", "loss_shape.png", "gradient_profile.png")


def rows(count):
    return [
        {
            "generation": i + 1,
            "fitness_mean": 0.7 + 2.0 / (i + 1),
            "fitness_best": 0.6 + 0.5 / (i + 1),
            "ranking_accuracy": 1.0 - 0.5 / (i + 1),
        }
        for i in range(count)
    ]


def untrained(kind="per_class", num_classes=None):
    network = NetworkConfig(kind=kind, hidden=(4,))
    calibration = loss.Calibration(num_classes=(2.0, 1000.0), scale=(2.0, 2.0), shift=(1.0, 1.0), tail_slope=-0.3)
    return loss.Artifact(network, init(jax.random.key(0), network, num_classes), calibration, num_classes)


def optimum():
    """Return half of cross-entropy, as a table of ln p_t."""
    log_p = np.linspace(-9.0, 0.0, 33)
    params = params_of(-9.0, -0.5 * log_p, np.full(33, -0.5))
    return loss.Artifact(NetworkConfig(kind="table", hidden=(33,)), params, loss.Calibration())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The figures of an untrained loss."""
    path = tmp_path_factory.mktemp("run") / "figures"
    figures.draw(path, rows(60), untrained(), MixtureConfig())
    return path


@pytest.fixture(scope="module")
def folder_with_optimum(tmp_path_factory):
    """The same with the optimum beside it."""
    path = tmp_path_factory.mktemp("run") / "figures"
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(figures, "mixture_histogram", lambda *_: None)  # the same
    known = [{**row, "fitness_ratio": row["fitness_best"] / 0.55} for row in rows(60)]
    figures.draw(path, known, untrained(), MixtureConfig(), optimum())
    monkeypatch.undo()
    return path


def share(image, colour):
    """Return the share of pixels of a colour given as #rrggbb, pure or mixed with the white behind it."""
    ink = 1.0 - np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    found = 1.0 - image[..., :3]
    norm = np.linalg.norm(found, axis=-1)
    return np.mean((norm > 0.3) & (found @ ink > 0.99 * norm * np.linalg.norm(ink)))


def test_a_run_has_four_figures(folder):
    assert {path.name for path in folder.iterdir()} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_figure_is_a_png_of_its_size_that_shows_its_curves(folder, name):
    assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    image = imread(folder / name)
    assert image.shape == SIZES[name]
    assert np.all(image[..., 3] == 1.0)
    assert 0.5 < np.mean(image == 1.0) < 0.99
    for colour in COLOURS[name]:
        assert share(image, colour) > 5e-4, colour


@pytest.mark.parametrize("name", OPTIMUM)
def test_the_optimum_is_drawn_where_it_is_known(folder, folder_with_optimum, name):
    assert share(imread(folder / name), figures.GREEN) < 5e-5
    assert share(imread(folder_with_optimum / name), figures.GREEN) > 2e-4
    for colour in COLOURS[name]:
        assert share(imread(folder_with_optimum / name), colour) > 5e-4, colour


def test_a_loss_for_one_number_of_classes_can_be_drawn(tmp_path):
    figures.loss_shape(tmp_path / "l.png", untrained("joint", 3), optimum())
    figures.gradient_profile(tmp_path / "g.png", untrained("joint", 3), optimum())
    assert imread(tmp_path / "l.png").shape == SIZES["loss_shape.png"]
    assert imread(tmp_path / "g.png").shape == SIZES["gradient_profile.png"]


@pytest.mark.parametrize("count", [1, 2, 40])
def test_convergence_of_short_runs_and_of_missing_numbers(tmp_path, count):
    values = rows(count)
    values[0]["fitness_mean"] = None  # how metrics.jsonl writes NaN
    figures.convergence(tmp_path / "c.png", values)
    assert imread(tmp_path / "c.png").shape == SIZES["convergence.png"]


def test_a_perfect_ranking_can_be_drawn(tmp_path):
    values = [{**row, "ranking_accuracy": 1.0} for row in rows(3)]
    figures.convergence(tmp_path / "c.png", values)
    assert imread(tmp_path / "c.png").shape == SIZES["convergence.png"]
