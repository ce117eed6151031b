"""The verdict on the terminal, `--fail-if shortcut`, and classes that stand out in a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import vice
from planted import planted
from simulated import simulated
from torchvice.samples import Samples


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verdicts")
    planted(200, shortcut=2).save(folder / "planted")
    planted(200, seed=1).save(folder / "clean")
    simulated(200, classes=6).save(folder / "old")
    planted(2).save(folder / "tiny")
    return folder


@pytest.mark.parametrize("name", ["planted", "clean", "old"])
def test_the_verdict_comes_first_and_in_80_columns(
    tables: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    command = ("measure", tables / name, "--no-figures", "--replicates", 100)
    status, out, _ = vice(capsys, *command)
    assert status == 0
    verdict = json.loads((tables / name / "measures.json").read_text())["verdict"]
    text = " ".join(out.split())
    assert text.startswith(" ".join(verdict["sentences"]))
    assert text.index(verdict["sentences"][-1]) < text.index("200 images")
    assert all(caveat in text for caveat in verdict["caveats"])
    assert "Over 200 images" not in text  # the table has these numbers
    assert not any(line.startswith("%") for line in out.splitlines())
    _, whole, _ = vice(capsys, *command, "--all")
    lines = [line for line in whole.splitlines() if not line.startswith("Written: ")]
    assert max(map(len, lines)) <= 80
    assert ("Found labels of each class, on changed images" in whole) == (name != "old")
    assert ("Still found without the object" in whole) == (name != "old")


def test_fail_if_shortcut(tables: Path, capsys: Any) -> None:
    options = ("--no-figures", "--replicates", 0, "--fail-if", "shortcut")
    status, out, _ = vice(capsys, "measure", tables / "planted", *options)
    assert status == 1
    assert "No class must stand out (--fail-if shortcut), but these do: class2." in out
    assert (tables / "planted" / "measures.json").is_file()
    status, out, _ = vice(capsys, "measure", tables / "clean", *options)
    assert (status, "--fail-if" in out) == (0, False)
    status, out, _ = vice(capsys, "measure", tables / "tiny", *options)
    assert status == 1
    assert "A class must be tested (--fail-if shortcut), but none could be" in out
    status, out, _ = vice(capsys, "measure", tables / "clean", *options, "--fail-under", "without.object_lost=0.99")
    assert status == 1
    assert "without.object_lost must be at least 0.99, but is 0." in out
    status, _, err = vice(capsys, "measure", tables / "old", "--no-figures", "--fail-under", "without.object_lost=0.1")
    assert (status, "`without.object_lost` was not measured on this table" in err) == (2, True)
    status, _, err = vice(capsys, "measure", tables / "clean", "--fail-if", "anything")
    assert (status, "shortcut" in err) == (2, True)


def test_compare_names_the_classes_and_the_share_without_the_object(tables: Path, capsys: Any, tmp_path: Path) -> None:
    options = ("--no-figures", "--replicates", 200, "--json", tmp_path / "c.json")
    status, out, _ = vice(capsys, "compare", tables / "planted", tables / "clean", *options)
    assert status == 0
    text, found = " ".join(out.split()), json.loads((tmp_path / "c.json").read_text())
    assert "Stands out: class2 in planted and not in clean." in text
    assert "does not show that the models differ in it" in text
    assert {row["class"] for row in found["stands_out"]["planted"]} == {"class2"}
    assert found["stands_out"]["clean"] == []
    first, second = (row["without_object"] for row in found["models"])
    counts = []
    for name in ("planted", "clean"):
        samples = Samples.load(tables / name)
        regions, images = samples.regions, samples.images
        row_of = {image_id: row for row, image_id in enumerate(images.image_id.tolist())}
        rows = [row_of[image_id] for image_id in regions.image_id.tolist()]
        found_rows = (images.logits[rows, regions.label - 1] > 0) & (regions.explanation == "strict:cam")
        counts.append((regions.without_object[found_rows] > 0).mean())
    assert (first, second) == pytest.approx(counts)
    row = next(row for row in found["differences"] if row["measure"] == "without_object")
    assert row["difference"] == pytest.approx(first - second)
    assert row["low"] < row["difference"] < row["high"]
    assert "Still found without the object" in out
    assert max(len(line) for line in out.splitlines() if not line.startswith("Written")) <= 80


def test_compare_of_tables_without_interventions_is_as_before(tables: Path, capsys: Any, tmp_path: Path) -> None:
    options = ("--no-figures", "--replicates", 100, "--json", tmp_path / "c.json")
    status, out, _ = vice(capsys, "compare", tables / "clean", tables / "old", *options)
    assert status == 0
    found = json.loads((tmp_path / "c.json").read_text())
    assert "without_object" not in {row["measure"] for row in found["differences"]}
    assert "without_object" not in found["models"][1]
    assert "No class stands out in any of the models." in " ".join(out.split())


def test_a_table_for_a_paper(tables: Path, capsys: Any, tmp_path: Path) -> None:
    given = ("table", tables / "planted", "--replicates", 100)
    status, out, _ = vice(capsys, *given)
    assert status == 0
    assert out.startswith("Explanations and controls over 200 images.\n\n| Explanation | JI score | VICE |")
    status, said, _ = vice(capsys, *given, "--format", "latex", "--out", tmp_path / "t.tex")
    assert status == 0
    assert (tmp_path / "t.tex").read_text().startswith(r"\begin{table}")
    assert "Written:" in said
    status, _, err = vice(capsys, "table", tables / "planted", tables / "planted")
    assert status == 2
    assert "one folder is named twice" in err


def test_the_format_of_a_table_is_that_of_its_file(tables: Path, capsys: Any, tmp_path: Path) -> None:
    given = ("table", tables / "planted", "--replicates", 100, "--out")
    starts = {"t.md": "Explanations and", "t.txt": "Explanations and", "t": "Explanations and", "t.csv": "Explanation,"}
    for name, start in {**starts, "T.TEX": r"\begin{table}"}.items():
        assert vice(capsys, *given, tmp_path / name)[0] == 0
        assert (tmp_path / name).read_text().startswith(start)
    for wrong, says in (
        (("x.pdf",), "Give one of them, or say the --format."),
        (("x.csv", "--format", "latex"), "Leave --format out, or rename the file."),
    ):
        status, _, err = vice(capsys, *given, tmp_path / wrong[0], *wrong[1:])
        assert (status, says in err, (tmp_path / wrong[0]).exists()) == (2, True, False)
    for right in (("x.csv",), ("x.tex", "--format", "latex"), ("x.rst", "--format", "csv")):
        assert vice(capsys, *given, tmp_path / right[0], *right[1:])[0] == 0
    assert (tmp_path / "x.rst").read_text().startswith("Explanation,")


def test_where_numbers_go_is_looked_at_before_the_work(
    tables: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    own, both = tables / "planted", (tables / "clean", tables / "old")
    wrong: list[tuple[Any, ...]] = [
        ("measure", own, "--json", tmp_path),
        ("measure", own, "--write-csv", tmp_path),
        ("measure", own, "--figures", tmp_path / "file"),
        ("compare", *both, "--json", tmp_path),
        ("compare", *both, "--figures", tmp_path / "file"),
        ("table", own, "--out", tmp_path),
        ("report", own, "--out", tmp_path),
        ("publish", own, "--to", "json", "--out", tmp_path / "file"),
        ("data", "check", tmp_path, "--json", tmp_path),
        ("evaluate", "--list", "l", "--predictions", "p", "--ground-truth", "g", "--type", "png", "--json", tmp_path),
    ]
    for word in ("samples.Samples.load", "commands.evaluate.evaluate", "data.check.survey"):
        monkeypatch.setattr(f"torchvice.{word}", None)
    for words in wrong:
        status, out, err = vice(capsys, *words)
        assert (status, out) == (2, ""), (words, err)
        assert "must be a f" in err


def test_numbers_are_said_to_be_elsewhere_once_they_are(
    tables: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, given = tables / "planted" / "measures.json", ("measure", tables / "planted", "--no-figures", "--replicates")
    assert vice(capsys, *given, 100)[0] == 0
    out = vice(capsys, *given, 0)[1]
    assert f"Kept {own}" in "".join(out.split("\n"))
    assert (own.with_name("measures_latest.json")).is_file()

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(own))

    monkeypatch.setattr("torchvice.commands.measure.write_measures", refuse)
    status, out, err = vice(capsys, *given, 0)
    assert (status, "Kept" in out, "Permission denied" in err) == (2, False, True)
