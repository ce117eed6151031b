"""The benchmark of GPUs, on the CPU with small networks: its rows are measured, and a failure ends one row alone."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from torchvice.samples import ShardFolder

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("gpu")
    for name in ("gpu", "gpu_assess", "relevance", "machine"):
        sys.modules.pop(name, None)


def bench_of(gpu: ModuleType, seconds: float = 100):  # type: ignore[no-untyped-def]
    return gpu.Bench("cpu", True, time.monotonic() + seconds)


def test_explain_and_relevance_give_a_number_in_every_row(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "MODES", {"bfloat16": gpu.MODES["bfloat16, channels last"]})
    bench = bench_of(gpu)
    gpu.explain(bench)
    gpu.relevance(bench)
    assert all(row["value"] > 0 for row in bench.rows), bench.rows
    assert {row.get("of") for row in bench.rows} == {None, "forward", "published"}
    names = " ".join(row["what"] for row in bench.rows)
    assert all(method in names for method in (*gpu.FAMILY, "transformer_attribution", "generic_attention"))


def test_correctness_compares_each_method(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ("gradcam", "rollout", "random")
    monkeypatch.setattr(gpu, "METHODS", {name: gpu.METHODS[name] for name in kept})
    bench = bench_of(gpu)
    gpu.correctness(bench)
    assert [row["value"] for row in bench.rows] == [0.0] * 5  # the CPU against itself; rollout suits one network
    gpu.counting(bench)
    assert bench.rows[-1]["note"] == "every count is numpy's"


def test_what_fails_is_a_row_and_the_deadline_is_kept(gpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bench = bench_of(gpu)
    with bench.guarded("explain", "a network"):
        raise RuntimeError("out | of memory")
    late = bench_of(gpu, 0)
    gpu.relevance(late)
    assert bench.rows[0]["note"] == "RuntimeError: out | of memory"
    assert late.rows[0]["note"] == "no time left"
    assert "| explain | a network | failed |  |  | RuntimeError: out / of memory |" in capsys.readouterr().out


def test_targets_are_judged_by_value_and_by_ratio(gpu: ModuleType) -> None:
    bench = bench_of(gpu)
    bench.row("assess", "a", 900.0, "images/s", ratio=0.9, of="forward", least=0.85)
    bench.row("relevance", "b", 900.0, "maps/s", target=1000)
    assert [row["met"] for row in bench.rows] == [True, False]


def test_the_made_images_are_assessed(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = importlib.import_module("gpu_assess")
    (tmp_path / "images").mkdir()
    jpegs = made.write_jpegs(tmp_path / "images", 3, 1)
    setting = {"network": "test_resnet", "side": 64, "batch": 2, "device": "cpu", "precision": "bfloat16"}
    setting |= {"channels_last": True, "method": "gradcam"}
    setting["model"] = made.network(setting)
    assert made.forward_rate(jpegs, setting, 0, True) > 0
    for complete in (True, False):
        monkeypatch.setattr(made, "COMPLETE", complete)
        folder = tmp_path / f"table-{complete}"
        made.assess_part(jpegs, setting, folder, 1)
        assert ShardFolder(folder).finished_images() == {"000000", "000001", "000002"}
    manifest = json.loads((tmp_path / "table-True" / "manifest.json").read_text())
    assert (manifest["map_settings"]["precision"], manifest["map_settings"]["channels_last"]) == ("bfloat16", True)


def test_the_command_writes_rows_and_a_table(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["gpu.py", "--device", "cpu", "--tiny", "--until", "1", "--json", str(tmp_path / "rows.json")]
    monkeypatch.setattr(sys, "argv", given)
    gpu.main()
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["section"], row["note"]) for row in rows] == [(name, "no time left") for name in gpu.SECTIONS]
    assert "| section | what | value | ratio | target | note |" in capsys.readouterr().out
