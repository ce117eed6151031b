"""What a command says next, and what it sets for its processes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from planted import planted
from torchvice.cli.assess import _measured
from torchvice.cli.study import _is_there
from torchvice.commands.demo import run_demo
from torchvice.errors import ViceError
from torchvice.measures import measure
from torchvice.models.build import check_name
from torchvice.report.diagrams import diagrams_of
from torchvice.study import launch


def test_a_data_frame_without_pandas_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ViceError, match="A data frame needs pandas, which is not installed"):
        planted(20).to_pandas()


def test_the_bars_of_the_strict_diagram_are_called_precision() -> None:
    figure = diagrams_of(measure(planted(60), replicates=0))["reliability_strict"]
    texts = [text.get_text() for axes in figure.axes for text in axes.findobj(lambda part: hasattr(part, "get_text"))]
    assert any(text.startswith("Precision") for text in texts)
    assert not any("accuracy" in text.lower() for text in texts)


def test_a_table_of_strict_alone_has_its_vice_diagram() -> None:
    figures = diagrams_of(measure(planted(60), replicates=0))
    assert "vice" not in figures  # that of `paper`
    assert figures["vice_strict"].axes[0].get_xlabel().startswith("pairs by increasing loss")


def test_idle_threads_of_the_command_sleep_unless_the_user_says_otherwise() -> None:
    code = "import os, sys\nfrom torchvice.cli.app import main\nsys.argv = ['vice', '--version']\n"
    code += "try:\n    main()\nexcept SystemExit:\n    print(os.environ['OMP_WAIT_POLICY'])"
    for environment, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split()[-1] == policy


def test_idle_threads_of_a_studys_jobs_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(launch.subprocess, "Popen", lambda program, **options: started.append(options))
    launch.start_job(tmp_path, 2)
    assert started[0]["env"]["OMP_WAIT_POLICY"] == "PASSIVE"
    assert started[0]["env"]["OMP_NUM_THREADS"] == "2"


def test_after_another_split_its_own_table_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvice.runs.Run", lambda run: SimpleNamespace(assess_dir=lambda: run / "assess" / "test"))
    own, other = (SimpleNamespace(out=tmp_path / "assess" / split) for split in ("test", "mini"))
    assert _measured(own, tmp_path) == tmp_path  # type: ignore[arg-type]
    assert _measured(other, tmp_path) == other.out  # type: ignore[arg-type]
    assert _measured(other, None) == other.out  # type: ignore[arg-type]


def test_a_study_lists_what_is_missing(tmp_path: Path) -> None:
    assert _is_there(str(tmp_path))
    assert _is_there("numpy")
    assert not _is_there(str(tmp_path / "digits"))
    assert not _is_there("no_such_package")


def test_a_name_of_the_hub_is_answered_with_options_that_exist() -> None:
    with pytest.raises(ViceError) as caught:
        check_name("hf-hub:timm/resnet18.a1_in1k")
    assert "-o model.weights=FILE, or --weights FILE" in caught.value.way_out


def test_a_demo_that_does_not_fit_the_folder_names_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise ViceError("`trainer.epochs` was 10 and is 2.", "Or start another run: -o session_name=NAME.")

    monkeypatch.setattr("torchvice.data.digits.write_digits", lambda *_, **__: None)
    monkeypatch.setattr("torchvice.training.run.train", train)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.yaml").touch()
    with pytest.raises(ViceError) as caught:
        run_demo(tmp_path / "demo", progress_bar=lambda _: nullcontext(lambda *_: None), say=lambda _: None)
    assert f"vice demo --out {tmp_path / 'demo'}-2" in caught.value.way_out


def test_a_demo_into_a_file_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr("torchvice.data.digits.write_digits", lambda *_, **__: written.append(1))
    (tmp_path / "demo").touch()
    with pytest.raises(ViceError, match=r"A run must be a folder, but .*demo is a file"):
        run_demo(tmp_path / "demo", progress_bar=lambda _: nullcontext(lambda *_: None), say=lambda _: None)
    assert not written
