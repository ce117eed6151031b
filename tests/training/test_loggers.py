"""Figures in the logs of TensorBoard and W&B, read back from their files."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image

from command import vice
from planted import planted
from torchvice.config import Settings
from torchvice.report import vice_diagram
from torchvice.training.loggers import log_figures, pixels_of
from torchvice.training.run import train

Make = Callable[..., Settings]
FIGURE = vice_diagram(np.arange(20.0), np.linspace(1, 0, 20), 0.5)


def events(folder: Path) -> Any:
    """The event files of a folder."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = reader.EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    return read.Reload()


def picture(event: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))


def test_pixels_are_those_of_the_saved_figure(tmp_path: Path) -> None:
    pixels = pixels_of(FIGURE)
    FIGURE.savefig(tmp_path / "figure.png", dpi=FIGURE.dpi)
    saved = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
    np.testing.assert_array_equal(pixels, saved)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_tensorboard_keeps_the_figure_and_its_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoardLogger(tmp_path, name="", version="")
    took = log_figures([CSVLogger(tmp_path / "csv"), board], {"vice/diagram": FIGURE}, step=7)
    assert took == ["TensorBoardLogger"]
    board.experiment.close()
    (event,) = events(tmp_path).Images("vice/diagram")
    assert event.step == 7
    np.testing.assert_array_equal(picture(event), pixels_of(FIGURE))


def test_a_training_gives_figures_and_numbers_to_tensorboard(settings: Make) -> None:
    pytest.importorskip("tensorboard")
    asked = ("trainer.epochs=2", "trainer.vice_every_n_epochs=1", "trainer.vice_images=8", "trainer.vice_figures=true")
    run = train(settings(*asked), progress=False)
    read = events(run.logs / "version_0")
    assert "vice/strict" in read.Tags()["scalars"]
    assert {"vice/vice", "vice/reliability_strict", "vice/threshold_curve"} <= set(read.Tags()["images"])
    shown = read.Images("vice/reliability_strict")
    assert len(shown) == 2
    assert shown[0].step < shown[1].step
    assert picture(shown[0]).std() > 5


def test_figures_are_off_by_default(settings: Make) -> None:
    pytest.importorskip("tensorboard")
    run = train(settings("trainer.epochs=1", "trainer.vice_every_n_epochs=1", "trainer.vice_images=8"), progress=False)
    assert not events(run.logs / "version_0").Tags()["images"]


def test_pyplot_is_not_loaded(tmp_path: Path) -> None:
    import subprocess

    program = (
        "import sys, numpy as np\n"
        "from torchvice.report import vice_diagram\n"
        "from torchvice.training.loggers import pixels_of\n"
        "pixels_of(vice_diagram(np.arange(9.0), np.linspace(1, 0, 9), None))\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_wandb_keeps_the_figure_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    from lightning.pytorch.loggers import WandbLogger

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, project="torchvice", offline=True)
    assert log_figures([logger], {"vice/diagram": FIGURE}, step=7) == ["WandbLogger"]
    logger.experiment.finish()
    (file,) = tmp_path.rglob("media/images/vice/*.png")
    np.testing.assert_array_equal(np.asarray(Image.open(file).convert("RGB")), pixels_of(FIGURE))


def _mlflow_runs(folder: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'logs' / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "torchvice"]
    return [(client, run) for run in client.search_runs([experiment.experiment_id])]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of made images, and a machine on which no service is set up."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_MODE", "COMET_API_KEY", "COMET_START_ONLINE"):
        monkeypatch.delenv(name, raising=False)
    planted(60).save(tmp_path / "a-table")
    return tmp_path / "a-table"


def test_the_numbers_of_measure_are_read_back_from_csv_and_tensorboard(table: Path, capsys) -> None:
    asked = ("--log", "csv", "--log", "tensorboard", "--replicates", 200)
    status, out, _ = vice(capsys, "measure", table, *asked)
    assert status == 0
    assert f"{table / 'logs'}" in "".join(out.split())
    found = json.loads((table / "measures.json").read_text())
    (file,) = table.glob("logs/*/metrics.csv")
    with open(file, encoding="utf-8", newline="") as text:
        (row,) = csv.DictReader(text)
    assert float(row["strict/vice"]) == pytest.approx(found["strict"]["vice"], abs=1e-6)
    assert float(row["strict/vice/low"]) == pytest.approx(found["intervals"]["strict.vice"]["low"], abs=1e-6)
    assert not {name for name in row if name.removeprefix("localisation/") in found["undefined"]}
    read = events(file.parent)
    assert read.Scalars("strict/vice")[0].value == pytest.approx(found["strict"]["vice"], abs=1e-6)
    assert "figures/reliability_strict" in read.Tags()["images"]


def test_mlflow_keeps_numbers_and_figures_as_files(table: Path, capsys) -> None:
    pytest.importorskip("mlflow.server", reason="the extra `mlflow` is not installed")
    assert vice(capsys, "measure", table, "--log", "mlflow", "--replicates", 200)[0] == 0
    ((client, run),) = _mlflow_runs(table)
    found = json.loads((table / "measures.json").read_text())
    assert run.info.run_name == table.name
    assert run.info.status == "FINISHED"
    assert run.data.metrics["strict/vice"] == pytest.approx(found["strict"]["vice"], abs=1e-9)
    assert "reliability_strict_0.png" in {
        Path(one.path).name for one in client.list_artifacts(run.info.run_id, "figures")
    }
    assert [path for path in table.parent.iterdir() if path != table] == []


def test_comet_keeps_numbers_and_figures_in_an_archive(table: Path, capsys) -> None:
    pytest.importorskip("comet_ml", reason="the extra `comet` is not installed")
    assert vice(capsys, "measure", table, "--log", "comet", "--replicates", 200)[0] == 0
    assert "COMET_START_ONLINE" not in os.environ
    found = json.loads((table / "measures.json").read_text())
    (file,) = (table / "logs").glob("*.zip")
    with zipfile.ZipFile(file) as archive:
        sent = [json.loads(line)["payload"] for line in archive.read("messages.json").decode().splitlines()]
        assert json.loads(archive.read("experiment.json"))["project_name"] == "torchvice"
    numbers = {one["metric"]["metricName"]: one["metric"]["metricValue"] for one in sent if "metric" in one}
    assert numbers["strict/vice"] == pytest.approx(found["strict"]["vice"], abs=1e-9)
    figures = {one["additional_params"]["figName"] for one in sent if "additional_params" in one}
    assert "figures/reliability_strict" in figures
    assert not any(key in one for one in sent for key in ("installed_packages", "os_packages", "output"))


def test_a_training_logs_where_it_is_told_to(settings: Make) -> None:
    run = train(settings("trainer.epochs=1", "trainer.loggers=[csv]"), progress=False)
    assert [file.name for file in run.logs.rglob("*") if file.is_file() and "tfevents" in file.name] == []
    assert next(run.logs.rglob("metrics.csv")).stat().st_size > 0


def test_a_logger_that_is_unknown_or_not_installed_is_said_before_anything_is_measured(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    status, _, err = vice(capsys, "measure", table, "--log", "tensorbord")
    assert status == 2
    assert "A logger must be one of csv, tensorboard, wandb, mlflow, comet, but is 'tensorbord'." in err
    assert "Did you mean `tensorboard`?" in err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = vice(capsys, "measure", table, "--log", "mlflow")
    assert status == 2
    assert "The logger `mlflow` needs mlflow, which is not installed." in err
    assert "pip install 'torchvice[mlflow]'" in err
    assert not (table / "measures.json").exists()
