"""What is published is read back by the library that it is for."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from command import vice
from planted import planted
from tables import scenes, table_of
from torchvice.commands.publish import publish
from torchvice.data import open_dataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.measures import explanations_table, measure
from torchvice.publish import croissant, eval_results, headline, model_card, timm_row
from torchvice.samples import Samples
from ways_out import tried


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publish") / "my-model"
    planted(60).save(folder)
    return folder


@pytest.fixture(scope="module")
def values(table: Path) -> dict[str, float]:
    measures = measure(Samples.load(table), replicates=200)
    return {one.path.replace(".", "_"): one.value for one in headline(measures)}


def test_the_hub_reads_the_results(table: Path, values: dict[str, float], tmp_path: Path) -> None:
    (file,) = publish(table, "hub", tmp_path, dataset_id="group/photographs", replicates=200)
    assert file == tmp_path / ".eval_results" / "my-model.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert {one.task_id: one.value for one in entries} == values
    assert {one.dataset_id for one in entries} == {"group/photographs"}
    vice_of_strict = next(one for one in entries if one.task_id == "strict_vice")
    assert "protocol strict, maps by cam, 60 images" in str(vice_of_strict.notes)
    assert "95 % interval" in str(vice_of_strict.notes)


def test_the_hub_reads_the_model_card(table: Path, values: dict[str, float], tmp_path: Path) -> None:
    (file,) = publish(table, "model-index", tmp_path, name="A model", replicates=200)
    card = ModelCard.load(file)
    assert card.data.model_name == "A model"
    content = yaml.safe_load(file.read_text().split("---")[1])
    name, results = model_index_to_eval_results(content["model-index"])
    assert name == "A model"
    assert {one.metric_type: one.metric_value for one in results} == values
    assert measure(Samples.load(table), replicates=200).verdict.sentences[0] in card.text
    assert "| Explanation |" in card.text


def test_the_card_of_a_table_of_paper_has_the_numbers_of_paper(tmp_path: Path) -> None:
    table_of(scenes(12), ("paper",)).save(tmp_path / "t")
    (file,) = publish(tmp_path / "t", "model-index", tmp_path / "card", replicates=200)
    text = file.read_text()
    assert "| Explanation |" not in text
    assert "protocol paper" in text
    results = yaml.safe_load(text.split("---")[1])["model-index"][0]["results"]
    assert {one["metrics"][0]["type"].partition("_")[0] for one in results} == {"paper"}


def test_a_card_without_masks_has_the_numbers_of_the_model_alone(tmp_path: Path) -> None:
    table_of(scenes(12, unmasked=12)).save(tmp_path / "t")
    (file,) = publish(tmp_path / "t", "model-index", tmp_path / "card", replicates=200)
    text = file.read_text()
    assert "| ML-accuracy (strict) |" in text
    assert "VICE (strict) |" not in text
    assert "| Explanation |" not in text
    assert "protocol strict" in text


def test_explanations_without_masks_have_no_table(tmp_path: Path) -> None:
    table_of(scenes(12, unmasked=12)).save(tmp_path / "t")
    with pytest.raises(ViceError, match="no image of the table has a mask or a box"):
        explanations_table(measure(Samples.load(tmp_path / "t"), replicates=0))


def test_an_interval_that_is_not_reliable_is_published_as_such(table: Path) -> None:
    samples = Samples.load(table)
    measures = measure(samples, replicates=200)
    why = "The interval is not reliable: the losses have skewness 2.1."
    intervals = {**measures.intervals, "strict.vice": {**measures.intervals["strict.vice"], "reliable": False}}
    measures = dataclasses.replace(measures, intervals=intervals, notes={**measures.notes, "strict.vice": why})
    card = model_card(measures, samples.manifest, "A model", None)
    (row,) = [line for line in card.splitlines() if line.startswith("| VICE (strict) |")]
    assert row.endswith(" (not reliable) |")
    assert f"\n\nVICE (strict): {why}\n\n" in card
    assert card.count("not reliable") == 2
    entries = parse_eval_result_entries(yaml.safe_load(eval_results(measures, samples.manifest, "group/set")))
    assert [one.task_id for one in entries if "(not reliable)" in str(one.notes)] == ["strict_vice"]


def _exclusive() -> Samples:
    """A table of one label an image: mostly the likeliest class, else the next one."""
    samples = planted(60)
    order = np.argsort(-samples.images.logits, 1)
    label = np.where(np.arange(len(order)) % 4 > 0, order[:, 0], order[:, 1])
    targets = np.eye(order.shape[1], dtype=samples.images.targets.dtype)[label]
    images = dataclasses.replace(samples.images, targets=targets)
    return Samples({**samples.manifest, "targets": "exclusive"}, images, samples.regions, samples.maps)


def test_the_numbers_as_json_are_those_of_measure(table: Path, tmp_path: Path, capsys) -> None:
    (file,) = publish(table, "json", tmp_path, replicates=200)
    assert vice(capsys, "measure", table, "--replicates", 200, "--no-figures", "--json", tmp_path / "m.json")[0] == 0
    assert json.loads(file.read_text()) == json.loads((tmp_path / "m.json").read_text())


def test_an_edited_card_is_kept(table: Path, tmp_path: Path) -> None:
    (file,) = publish(table, "model-index", tmp_path, replicates=200)
    assert publish(table, "model-index", tmp_path, replicates=200) == [file]
    file.write_text(f"{file.read_text()}\nOur own words.\n")
    edited = file.read_text()
    other = tried(
        lambda: publish(table, "model-index", tmp_path, replicates=200),
        "Give another folder (--out)",
        lambda: publish(table, "model-index", tmp_path / "other", replicates=200),
    )
    assert other == [tmp_path / "other" / "README.md"]
    assert file.read_text() == edited


def test_what_does_not_fit_is_refused(table: Path, tmp_path: Path, capsys) -> None:
    done = tried(
        lambda: publish(table, "hub", tmp_path, replicates=0),
        "--dataset-id OWNER/NAME",
        lambda: publish(table, "hub", tmp_path, dataset_id="owner/name", replicates=0),
    )
    assert done[0].is_file()
    tried(
        lambda: publish(table, "json", tmp_path / "a", dataset_id="owner/name", replicates=0),
        "Leave it out",
        lambda: publish(table, "json", tmp_path / "a", replicates=0),
    )
    tried(
        lambda: publish(table, "hub", tmp_path / "b", dataset_id="name", replicates=0),
        "For example --dataset-id my-group/street-photographs",
        lambda: publish(table, "hub", tmp_path / "b", dataset_id="my-group/street-photographs", replicates=0),
    )
    tried(
        lambda: publish(table, "timm-csv", tmp_path, replicates=0),
        "--to json",
        lambda: publish(table, "json", tmp_path / "c", replicates=0),
    )
    status, _, err = vice(capsys, "publish", table, "--to", "kaggle")
    assert status == 2
    assert "croissant" in err


def test_a_row_of_timm(tmp_path: Path) -> None:
    samples, measures = _exclusive(), measure(planted(60), replicates=0)
    (tmp_path / "results.csv").write_text(timm_row(samples, measures, "resnet18.a1_in1k"))
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row)[:5] == ["model", "top1", "top1_err", "top5", "top5_err"]
    images = samples.of_protocol("strict").images
    right = (images.logits.argmax(1) == images.targets.argmax(1)).mean()
    assert 0.5 < right < 1
    assert float(row["top1"]) == pytest.approx(100 * right, abs=5e-4)
    assert float(row["top1"]) + float(row["top1_err"]) == pytest.approx(100, abs=1e-3)
    assert float(row["strict_vice"]) == measures.strict["vice"]
    assert float(row["top5"]) == 100  # of the two likeliest, one is right


@pytest.fixture
def digits(tmp_path: Path) -> Any:
    write_digits(tmp_path / "digits", train=4, val=3, test=5, size=48)
    return open_dataset(tmp_path / "digits", "test")


def test_croissant_reads_the_records(digits: Any, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra `croissant` is not installed")
    text, records = croissant(digits, "digits")
    (tmp_path / "croissant.json").write_text(text)
    (tmp_path / "records.csv").write_text(records)
    described = mlcroissant.Dataset(tmp_path / "croissant.json")
    assert not described.metadata.ctx.issues.errors
    found = list(described.records("records"))
    assert [one["records/image_id"].decode() for one in found] == [record.image_id for record in digits.records]
    for one, record, row in zip(found, digits.records, digits.targets, strict=True):
        assert (digits.root / one["records/image"].decode()).samefile(record.image)
        assert (digits.root / one["records/mask"].decode()).samefile(record.mask)
        shown = one["records/labels"].decode().split("|")
        assert shown == [label for label, there in zip(digits.classes, row, strict=True) if there]


@pytest.mark.parametrize("hub", [None, ModuleType("huggingface_hub")], ids=["not installed", "too old"])
@pytest.mark.parametrize("form", [("hub", "--dataset-id", "group/set"), ("model-index",)])
def test_without_a_recent_huggingface_hub_the_extra_is_named(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, hub: Any, form: tuple[str, ...]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    status, _, err = vice(capsys, "publish", table, "--to", *form, "--out", tmp_path, "--replicates", 0)
    says = "Files for the Hub are written by huggingface_hub 1.4 or later, which is not installed. pip install"
    assert (status, says in " ".join(err.split())) == (2, True)
    assert not list(tmp_path.iterdir())


def test_names_that_are_not_utf8_are_refused_by_croissant(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlcroissant", ModuleType("mlcroissant"))
    first = dataclasses.replace(digits.records[0], image_id="a\udcff")
    monkeypatch.setattr(digits, "records", [first, *digits.records[1:]])
    with pytest.raises(ViceError, match="must be UTF-8"):
        croissant(digits, "digits")


def test_without_mlcroissant_the_extra_is_named(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    with pytest.raises(ViceError) as caught:
        croissant(digits, "digits")
    assert "torchvice[croissant]" in caught.value.way_out
