"""The catalogue: every number has one record, and everything that names numbers follows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulated import simulated
from torchvice import ViceError, measure
from torchvice.measures.catalogue import CATALOGUE, SECTIONS, compared_label, measure_of, overview, paths, shown_in
from torchvice.measures.json_schema import json_schema
from torchvice.measures.sheet import Sheet

PAGE = (Path(__file__).parents[2] / "docs" / "definitions.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w.]+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


def test_the_page_of_definitions_lists_every_path_once_with_its_name() -> None:
    assert [row[0] for row in ROWS] == list(CATALOGUE)
    for path, label, unit, better in ROWS:
        record = measure_of(path)
        assert (label, unit, better) == (record.full_label, record.unit, record.better or "–"), path


def test_records_are_whole() -> None:
    for path, record in CATALOGUE.items():
        assert record.path == path
        assert record.section in SECTIONS
        assert record.label.strip()
        assert record.definition.endswith(".")
        assert record.unit in ("fraction", "correlation", "error", "squared error", "nats", "bits", "count")
        assert record.better in ("higher", "lower", None)
        assert set(record.shown) <= {"overview", "page", "headline"}
        if record.unit == "error":
            assert (record.better, record.perfect) == ("lower", 0.0)


def test_a_number_without_a_record_cannot_be_put() -> None:
    sheet = Sheet()
    sheet.put("strict.vice", 0.5)
    with pytest.raises(ViceError, match=r"`?strict\.vise`?.*\n.*Did you mean `strict\.vice`"):
        sheet.put("strict.vise", 0.5)


def test_measures_hold_what_the_catalogue_lists_in_its_order() -> None:
    found = measure(simulated(60), replicates=0)
    for section in SECTIONS:
        listed = [path.partition(".")[2] for path in paths(section)]
        held = [name for name in getattr(found, section) if name in listed]
        assert held == [name for name in listed if name in held]
        assert set(getattr(found, section)) - set(listed) <= {"name", "meaning"}


def test_both_protocols_share_a_row_and_a_name() -> None:
    rows = overview()
    assert rows[0] == ("VICE", "paper.vice", "strict.vice")
    assert ("JI score", "paper.ji", "strict.ji") in rows
    assert len({label for label, *_ in rows}) == len(rows)
    assert {record.path for record in shown_in("headline")} >= {"strict.vice", "strict.ji"}
    assert compared_label("quality", "soft_iou") == "Soft IoU"
    assert compared_label("quality") == measure_of("strict.ji").label == measure_of("paper.ji").label


def test_the_schema_describes_every_number() -> None:
    properties = json_schema()["properties"]
    for path, record in CATALOGUE.items():
        section, name = path.split(".")
        assert properties[section]["properties"][name]["title"] == record.full_label
