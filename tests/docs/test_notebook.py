"""The notebooks run from their first cell to their last."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"


def execute(name, folder):
    """Return (text, whether there is an image) of the outputs of a notebook run in `folder`."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is stored without outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    return text, any("image/png" in output.get("data", {}) for output in outputs)


def test_quickstart_runs(tmp_path):
    text, has_image = execute("quickstart.ipynb", tmp_path)
    assert "ranking_accuracy" in text
    assert text.count("test accuracy") == 2
    assert has_image


@pytest.mark.slow
def test_four_losses_are_found(tmp_path):
    text, has_image = execute("four_losses.ipynb", tmp_path)
    shapes = [float(line.split("optimum")[1]) for line in text.splitlines() if "R^2 with the optimum" in line]
    assert len(shapes) == 4
    assert min(shapes) > 0.98, text
    assert text.count("turns up again") == 2
    assert has_image
