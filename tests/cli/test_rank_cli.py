"""`vice rank`: its table in 80 columns, and the files that it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from command import vice
from simulated import simulated
from torchvice.publish.timm_csv import COLUMNS


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rank") / "many"
    for at in range(7):
        simulated(60, dependence=at / 3).save(folder / f"a_rather_long_name_of_a_network.in12k_ft_{at}")
    return folder


def test_the_table_is_readable_at_80_columns_and_says_what_it_leaves_out(many: Path, capsys) -> None:
    status, out, _ = vice(capsys, "rank", many, "--replicates", 100, "--rows", 3)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "The first 3 of 7 models. All: --rows 7, --csv FILE or --out PAGE.html." in " ".join(out.split())
    assert "95 % set: the ranks that the model may have." in out
    assert out.count("a_rather_long_name") >= 3
    assert "Written" not in out
    assert "The first" not in vice(capsys, "rank", many, "--replicates", 100)[1]


def test_a_wide_screen_shows_whole_names(many: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    status, out, _ = vice(capsys, "rank", many, "--replicates", 100)
    assert status == 0
    assert all(f" a_rather_long_name_of_a_network.in12k_ft_{at} " in out for at in range(7))
    assert max(map(len, out.splitlines())) <= 150


def test_json_csv_and_page(many: Path, tmp_path: Path, capsys) -> None:
    files = {name: tmp_path / name for name in ("ranking.json", "ranking.csv", "page.html")}
    outputs = zip(("--json", "--csv", "--out"), files.values(), strict=True)
    status, out, _ = vice(
        capsys, "rank", many, "--replicates", 100, "--top", 2, *(part for pair in outputs for part in pair)
    )
    assert status == 0
    assert all(str(path) in out.replace("\n", "") for path in files.values())
    content = json.loads(files["ranking.json"].read_text())
    rows = list(csv.DictReader(files["ranking.csv"].open()))
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    assert [row["model"] for row in rows] == [row["name"] for row in content["models"]]
    for row, expected in zip(rows, content["models"], strict=True):
        assert float(row["strict_vice"]) == expected["vice"]
        assert float(row["strict_vice_low"]) == expected["vice_low"]
        assert int(row["rank_high"]) == expected["rank_high"]
        assert row["top1"] == ""  # several labels an image
        assert row["candidate"] == str(expected["candidate"])
    assert content["models"][0]["name"] in files["page.html"].read_text()


def test_a_table_left_out_is_a_row_of_the_csv(many: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("[]")
    status, out, _ = vice(capsys, "rank", many, tmp_path / "broken", "--replicates", 100, "--csv", tmp_path / "r.csv")
    assert status == 0
    assert "1 table is left out: broken." in " ".join(out.split())
    last = list(csv.DictReader((tmp_path / "r.csv").open()))[-1]
    assert last["model"] == "broken"
    assert last["reason"]
    assert last["rank"] == ""


def test_refusals_come_before_the_work(many: Path, tmp_path: Path, capsys) -> None:
    status, _, err = vice(capsys, "rank", many, "--out", tmp_path / "page.pdf")
    assert status == 2
    assert "Give --out" in err
    assert "page.html" in err
    assert "--pdf" not in err
    assert vice(capsys, "rank", many, "--json", tmp_path)[0] == 2
    status, _, err = vice(capsys, "rank", many, "--by", "ece_ml")
    assert status == 2
    assert "mean_average_precision" in err
    status, _, err = vice(capsys, "rank", many / "nothing")
    assert status == 2
    assert "there is nothing at" in err
    assert list(tmp_path.iterdir()) == []


def test_paper_is_ranked_alone(many: Path, capsys) -> None:
    status, _, err = vice(capsys, "rank", many, "--protocol", "paper")
    assert status == 2
    assert "was not assessed under `paper`" in err
