"""The table of a study on a terminal of 80 columns breaks no word, and its sentences repeat nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from torchvice.cli.study import _print_rows
from torchvice.study.table import sentences_of

AXES = ["optimizer.weight_decay", "model.name"]


def test_no_word_is_broken_at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    controls = "not above random, center, foreground, shuffled, random_weights"
    row = {"optimizer.weight_decay": "0.05", "model.name": "resnet18", "seed": 1, "vice": 0.151, "ji": 0.165}
    _print_rows([{**row, "mean_average_precision": 0.2, "ece_ml": 0.358, "controls": controls}], AXES, "ji")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    words = {word for line in lines[1:] for word in line.translate(dict.fromkeys(map(ord, "│┃"), " ")).split()}
    written = {word for word in words if word[0].isalnum()}
    heads = "optimizer weight decay model name seed VICE mAP ECE-ML JI score controls"
    cells = "0.05 resnet18 1 0.151 0.200 0.358 0.165 not above 5"
    assert written == {*heads.split(), *cells.split()}


def test_without_controls_a_finished_run_has_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"data": "a", "seed": 1, "vice": 0.1, "mean_average_precision": 0.2, "ece_ml": 0.3, "ji": 0.4}
    failed = {"data": "b", "seed": 1, "status": "failed"}
    _print_rows([{**row, "status": "finished", "controls": None}, failed], ["data"], "ji")
    cells = [line.split("│")[-2].strip() for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert cells == ["–", "failed"]


def test_two_levels_without_any_claim_are_one_sentence() -> None:
    def row(measure: str, difference: float | None = None) -> dict[str, Any]:
        found = {"axis": "model.name", "others": "", "first": "a", "second": "b", "measure": measure}
        missing = dict.fromkeys(("low", "high", "p", "p_holm"))
        return {**found, **missing, "difference": difference, "seeds_first": 1, "seeds_second": 1, "reason": "few."}

    study: Any = SimpleNamespace(axes=["model.name"], request=SimpleNamespace(quality="ji"))
    assert sentences_of(study, [row("vice"), row("loss")]) == [
        "model.name: no claim about a - b (1 and 1 seeds).",
        "No claim, because: few.",
    ]
    both = sentences_of(study, [row("vice", 0.1), row("loss")])
    assert both[0] == "model.name: no claim about VICE of a - b = +0.100 (1 and 1 seeds)."
    assert len(both) == 3
