"""Each way out that figures and pages name, done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pages import shown
from studies import rows_of, study_folder

from tables import scenes, table_of
from torchvice.interop import LegacyTable, bilinear
from torchvice.measures.legacy import measure_table
from torchvice.metrics import multilabel_reliability, null_band
from torchvice.report import Case, Shown, calibration_diagram, threshold_curve, write_page
from torchvice.report.study.recipes import read_study
from ways_out import tried

P = np.random.default_rng(0).random((60, 3))
Y = (np.random.default_rng(1).random((60, 3)) < P).astype(float)


def test_the_band_is_of_the_diagrams_bins() -> None:
    diagram = multilabel_reliability(P, Y, 10, protocol="strict")

    def drawn(bins: int) -> Any:
        return calibration_diagram({"net": (diagram, null_band(P, bins, simulations=20))})

    says = "null_band takes the same probabilities, bins, unit and equal_mass as the diagram."
    assert tried(lambda: drawn(20), says, lambda: drawn(10)).axes


def a_case(plane: np.ndarray) -> Case:
    return Case(
        image=np.zeros((4, 6, 3), np.uint8),
        map=plane,
        mask=np.eye(4, 6, dtype=np.uint8),
        class_name="cat",
        label=1,
        ji=None,
        iou=None,
        confidence=0.5,
        labels=("cat",),
        prediction=("cat",),
        image_id="a",
    )


def test_a_map_is_resized_to_the_image_and_normalised() -> None:
    small, large = np.eye(2, 3, dtype=np.float32), np.full((4, 6), 7.0)
    tried(lambda: a_case(small), "Resize it to the image first.", lambda: a_case(bilinear(small[None], (4, 6))[0]))
    found = tried(lambda: a_case(large), "Normalise it first.", lambda: a_case(large / large.max()))
    assert found.map.max() == 1


def test_mean_iou_in_per_cent_is_divided() -> None:
    thresholds, iou = [0.1, 0.2, 0.3], np.array([20.0, 40.0, 30.0])
    figure = tried(
        lambda: threshold_curve({"net": (thresholds, iou, None)}),
        "Divide percent by 100.",
        lambda: threshold_curve({"net": (thresholds, iou / 100, None)}),
    )
    assert figure.axes


def test_runs_are_named_for_a_page_of_several_models(tmp_path: Path) -> None:
    made = table_of(scenes(12))
    table = LegacyTable(np.array(["a", "b", "c"]), loss=np.array([0.1, 0.4, 0.9]), miou=np.array([0.8, 0.5, 0.1]))
    csv = Shown("csv", measure_table(table), None)
    path = tmp_path / "report.html"
    tried(
        lambda: write_page(path, [shown(made, "a"), csv]),
        "Name RUNs.",
        lambda: write_page(path, [shown(made, "a"), shown(made, "b")]),
    )
    assert path.is_file()


def test_the_page_of_a_study_waits_for_its_first_run(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    found = tried(
        lambda: read_study(folder),
        "Wait until the first run has ended.",
        lambda: read_study(study_folder(folder, rows_of()[:1])),
    )
    assert len(found.rows) == 1
