"""The table of the benchmark of many rows is one that is read, and its contenders agree."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_contenders_agree_on_a_small_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.syspath_prepend(str(FOLDER))
    scale = importlib.import_module("scale")
    try:
        assert scale.write_table(tmp_path, 5000) > 0
        results = {name: run(tmp_path) for name, run in scale.CONTENDERS.items()}
    finally:
        sys.modules.pop("scale", None)
    assert len(results) == len(scale.CONTENDERS) >= 4
    for values in results.values():
        assert values == pytest.approx({key: results["pandas"][key] for key in values}, abs=1e-6)
