"""The notebooks run from their first cell to their last, and are stored with what they print."""

import json
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from edl_jax.synthetic import drop_in

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
SMALL = "generations, population, pairs, epochs = 2, 8, 32, 2"


def read(name):
    return nbformat.read(NOTEBOOKS / name, as_version=4)


def execute(notebook, folder):
    """Return (text, whether there is an image) of the outputs of a notebook run in `folder`."""
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return outputs(notebook)


def outputs(notebook):
    """Return (text, whether there is an image) of the outputs of a notebook."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in found)
    return text, any("image/png" in output.get("data", {}) for output in found)


@pytest.mark.parametrize("name", [path.name for path in sorted(NOTEBOOKS.glob("*.ipynb"))])
def test_outputs_are_stored(name):
    notebook = read(name)
    text, has_image = outputs(notebook)
    assert has_image
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert "/tmp" not in text  # no path of the machine that ran it
    assert "Traceback" not in text


def test_quickstart_trains_with_the_loss_that_it_evolved(capsys, monkeypatch, tmp_path):
    # Without a kernel, which would import everything again, and on a budget of seconds.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(drop_in, "NUM_CLASSES", (2, 10, 100))  # 1,000 cost the most
    namespace = {}
    for i, cell in enumerate(cell for cell in read("quickstart.ipynb").cells if cell.cell_type == "code"):
        source = SMALL if "parameters" in cell.metadata.get("tags", []) else cell.source
        exec(compile(source, f"quickstart.ipynb, code cell {i + 1}", "exec"), namespace)  # our own notebook
    text = capsys.readouterr().out
    assert "ranking accuracy" in text
    lines = [line.split() for line in text.splitlines() if "test accuracy" in line]
    assert [line[0] for line in lines] == ["evolved", "cross-entropy"]
    trained_with = json.loads((tmp_path / namespace["folder"] / "evolved" / "config.json").read_text(encoding="utf-8"))
    assert namespace["result"]["artifact"] in json.dumps(trained_with)


@pytest.mark.slow
def test_quickstart_runs_in_a_kernel(tmp_path):
    text, has_image = execute(read("quickstart.ipynb"), tmp_path)
    assert text.count("test accuracy") == 2
    assert has_image


@pytest.mark.slow
def test_four_losses_are_found(tmp_path):
    text, has_image = execute(read("four_losses.ipynb"), tmp_path)
    shapes = [float(line.split("optimum")[1]) for line in text.splitlines() if "R^2 with the optimum" in line]
    assert len(shapes) == 4
    assert min(shapes) > 0.98, text
    assert text.count("turns up again") == 2
    assert has_image
