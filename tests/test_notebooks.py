"""The notebooks of the documentation run from the first cell to the last, on fewer images; what they show is real."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
# The cell of the sizes, and what stands in its place here.
SIZES = {
    "demo": "FOLDER, TRAIN, VAL, TEST, EPOCHS = Path('.'), 24, 12, 24, 1",
    "own-model": "FOLDER, TRAIN, VAL, EPOCHS = Path('.'), 48, 40, 2",
}


def cells(name: str) -> list[dict[str, Any]]:
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_the_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert re.search(r"^FOLDER, TRAIN", code[0].source, re.MULTILINE)
    code[0].source = f"from pathlib import Path\n{SIZES[name]}"
    resources = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [data for cell in code for output in cell.outputs for data in output.get("data", {})]
    assert "image/png" in shown
    assert "text/html" in shown
    html = " ".join("".join(o.data["text/html"]) for c in code for o in c.outputs if "text/html" in o.get("data", {}))
    assert "Measures" in html
    assert "Samples" in html


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.ipynb")))
def test_what_is_stored_is_small_and_of_no_machine(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert name in SIZES
    assert len(text) < 500_000
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", text)
    outputs = [output for cell in cells(name) if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
