"""A study with another quality of maps: every number of its table is of that quality, and everything names it."""

from __future__ import annotations

import pytest

from torchvice.errors import ViceError
from torchvice.files import read_json, write_json
from torchvice.measures import compare, measure
from torchvice.report.study.page import write_study_page
from torchvice.report.study.recipes import read_study
from torchvice.samples import Samples
from torchvice.study import check_study, load_study
from torchvice.study.description import write_description
from torchvice.study.job import STATE, finished, prepare, run_job
from torchvice.study.table import sentences_of, table_rows, write_table

ASKED = {"replicates": 100, "controls": "none", "protocols": ["strict"], "also": ["gradcam"]}
DECAY = "optimizer.weight_decay"


def test_the_row_is_of_the_chosen_quality_for_every_explanation(study_file) -> None:
    study = load_study(study_file(seeds=[1], axes={}, measure={**ASKED, "quality": "recall"}))
    (run,) = study.runs
    row = run_job(prepare(run, study.request))
    table = Samples.load(run.folder / "assess/test")
    found = measure(table, quality="recall", replicates=100)
    assert (row["vice"], row["quality"]) == (found.value("quality.vice"), found.value("quality.mean"))
    assert row["vice"] != found.value("strict.vice")
    assert row["vice_low"] == found.intervals["quality.vice"]["low"]
    (other,) = found.methods.values()
    assert (row["vice_gradcam"], row["quality_gradcam"]) == (other.vice, other.quality)
    assert not {name for name in row if name.startswith("ji")}
    compared = compare({"a": table, "b": table}, quality="recall", replicates=100).models[0]
    assert (row["vice"], row["quality"]) == pytest.approx((compared["vice"], compared["quality"]))
    # As of `vice measure --quality`, these numbers are beside the headline's.
    assert read_json(run.folder / "measures_recall.json")["quality"]["name"] == "recall"
    assert not (run.folder / "measures.json").exists()
    # A row that an earlier version left, of two qualities, is measured again.
    mixed = {**{name: value for name, value in row.items() if name != "quality"}, "ji": 0.5}
    write_json(run.folder / STATE, {**read_json(run.folder / STATE), "row": mixed})
    assert finished(run, study.request) is None
    again = run_job(prepare(run, study.request))
    assert {**again, "assess_seconds": 0} == {**row, "assess_seconds": 0}


def fake(run, request, **row) -> None:
    measured = {"images": 24, "vice": 0.1, "mean_average_precision": 0.5, "ece_ml": 0.1, **row}
    measured |= {"train_seconds": 3.0, "assess_seconds": 1.0}
    write_json(run.folder / STATE, {"asked": request.model_dump(mode="json"), "row": measured})


def test_the_description_findings_and_page_name_the_quality(study_file) -> None:
    study = load_study(study_file(measure={**ASKED, "quality": "recall"}))
    for place, run in enumerate(study.runs):
        fake(run, study.request, vice=0.1 * place, quality=0.4, vice_gradcam=0.3, quality_gradcam=0.2)
    numbers = {"difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "p_holm": 0.02, "reason": None}
    pair = {"axis": DECAY, "others": "", "first": "0.05", "second": "0.0", "seeds_first": 3, "seeds_second": 3}
    rows = [{**pair, **numbers, "measure": name} for name in ("vice", "quality")]
    said = sentences_of(study, rows)
    assert "VICE with recall of 0.05 - 0.0 = +0.100" in said[0]
    assert "Recall of 0.05 - 0.0" in said[1]
    assert read_json(write_description(study))["quality"] == "recall"
    write_table(table_rows(study), study.folder / "table")
    write_table(rows, study.folder / "comparisons")
    table = read_study(study.folder)
    assert table.quality == "recall"
    page = write_study_page(study.folder / "report.html", table).read_text(encoding="utf-8")
    assert "VICE with recall is highest for" in page
    assert "VICE with recall, gradcam" in page
    assert "Recall, gradcam" in page
    assert "VICE is highest" not in page
    assert ">JI score" not in page


def test_with_the_iou_nothing_is_added(study_file) -> None:
    study = load_study(study_file())
    assert "quality" not in read_json(write_description(study))
    fake(study.runs[0], study.request, ji=0.4)
    assert finished(study.runs[0], study.request)["ji"] == 0.4


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"quality": "recal"}, "must be a known one"),
        ({"quality": "insertion"}, "must be among measure.faithfulness"),
        ({"quality": "insertion", "faithfulness": ["deletion"]}, "must be among measure.faithfulness"),
        ({"quality": "recall", "protocols": ["paper"], "also": []}, "needs the view of `strict`"),
    ],
)
def test_a_quality_that_no_table_will_hold_is_refused_before_anything_runs(study_file, changes, match) -> None:
    with pytest.raises(ViceError, match=match):
        check_study(load_study(study_file(measure={**ASKED, **changes})), files=False)


def test_a_quality_of_faithfulness_is_accepted_where_it_is_measured(study_file) -> None:
    for taken in (["insertion"], ["steps=4"]):
        asked = {**ASKED, "quality": "insertion", "faithfulness": taken}
        check_study(load_study(study_file(measure=asked)), files=False)
