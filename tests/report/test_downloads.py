"""Files that the page holds in its links: they are those of the numbers, and a browser saves them."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import pytest
from pages import Watched, shown

from planted import planted
from torchvice.measures import explanations_table
from torchvice.report import Shown, write_page
from torchvice.report.page.downloads import downloads_of


@pytest.fixture(scope="module")
def one() -> Shown:
    return shown(planted(60), "a model/1")


def _files(one: Shown) -> dict[str, str]:
    found = downloads_of(one.measures, one.name)
    return {file.name: base64.b64decode(file.href.partition("base64,")[2]).decode() for file in found}


def test_the_files_have_the_numbers_at_full_precision(one: Shown) -> None:
    files, measures = _files(one), one.measures
    assert list(files) == [
        f"a-model-1-{n}" for n in ("measures.json", "numbers.csv", "classes.csv", "explanations.csv")
    ]
    assert json.loads(files["a-model-1-measures.json"]) == json.loads(json.dumps(measures.to_json()))
    rows = {row["measure"]: row for row in csv.DictReader(io.StringIO(files["a-model-1-numbers.csv"]))}
    assert float(rows["strict.vice"]["value"]) == measures.strict["vice"]
    assert float(rows["strict.vice"]["low"]) == measures.intervals["strict.vice"]["low"]
    for path, reason in measures.undefined.items():
        if path in rows:
            assert (rows[path]["value"], rows[path]["undefined"]) == ("", reason)
    classes = list(csv.DictReader(io.StringIO(files["a-model-1-classes.csv"])))
    assert [row["name"] for row in classes] == [row.name for row in measures.classes]
    assert [float(row["pairs"]) for row in classes] == [row.pairs for row in measures.classes]
    assert files["a-model-1-explanations.csv"] == explanations_table(measures).to_csv()


def test_a_name_without_a_letter_still_names_files(one: Shown) -> None:
    assert downloads_of(one.measures, "../")[0].name == "model-measures.json"


def test_a_browser_saves_them(one: Shown, watched: Watched, tmp_path: Path) -> None:
    watched.open(write_page(tmp_path / "page.html", one))
    with watched.page.expect_download() as started:
        watched.page.get_by_role("link", name="numbers (CSV)").click()
    started.value.save_as(tmp_path / "saved.csv")
    assert started.value.suggested_filename == "a-model-1-numbers.csv"
    assert (tmp_path / "saved.csv").read_text(encoding="utf-8") == _files(one)["a-model-1-numbers.csv"]
