"""Tables for a paper: what is bold is established by the comparison's own tests; each format is read back."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from planted import planted
from simulated import simulated
from torchvice.errors import ViceError
from torchvice.measures import compare, explanations_table, measure, models_table, numbers_table, true_pairs
from torchvice.measures.catalogue import measure_of
from torchvice.measures.result_table import Cell, ResultTable


@pytest.fixture(scope="module")
def found():
    """Three models of the same images; the second has worse logits, the third is the first again."""
    good = planted(200, seed=1)
    noise = np.random.default_rng(0).normal(0, 6, good.images.logits.shape)
    poor = type(good)(good.manifest, replace(good.images, logits=good.images.logits + noise), good.regions, good.maps)
    return compare({"good": good, "poor": poor}, replicates=300), compare(
        {"good": good, "poor": poor, "same": good}, replicates=300
    )


def column(table: ResultTable, head: str) -> list[Cell]:
    place = table.heads.index(head) - 1
    return [cells[place] for _, cells in table.rows]


def test_bold_is_what_the_tests_establish_against_every_other_model(found):
    two, three = map(models_table, found)
    row = {row["measure"]: row for row in found[0].differences}
    for name, head, sign in (("mean_average_precision", "mAP", 1), ("loss", "Loss", -1)):
        assert row[name]["p_holm"] <= 0.05
        assert sign * row[name]["difference"] > 0
        assert [cell.best for cell in column(two, head)] == [True, False]
        # Of two equal models none is better than every other one.
        assert [cell.best for cell in column(three, head)] == [False, False, False]
    assert [cell.value for cell in column(two, "mAP")] == [model["mean_average_precision"] for model in found[0].models]


def test_what_is_not_established_is_not_bold():
    a, b = planted(60, seed=1), planted(60, seed=1)
    table = models_table(compare({"a": a, "b": b}, replicates=200))
    assert not [cell for _, cells in table.rows for cell in cells if cell.best]
    assert "**" not in table.to_markdown()
    assert r"\textbf" not in table.to_latex()


def test_the_formats_say_the_same(found):
    table = models_table(found[0])
    lines = table.to_markdown().splitlines()
    heads, first = (line.strip("| ").split(" | ") for line in (lines[2], lines[4]))
    assert tuple(heads) == table.heads
    assert [text.strip("*") for text in first[1:]] == [cell.text() for cell in table.rows[0][1]]
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert float(rows[1][1]) == table.rows[0][1][0].value
    assert rows[0][:5] == ["Model", "VICE", "VICE low", "VICE high", "VICE best"]
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(io.StringIO(table.to_csv()))
    pandas.testing.assert_frame_equal(frame, table.to_pandas(), check_dtype=False)
    latex = table.to_latex()
    assert latex.count(r"\\") == 1 + len(table.rows)
    assert latex.count(r"\textbf{") == sum(cell.best for _, cells in table.rows for cell in cells)


def test_names_are_text_in_every_format():
    table = ResultTable("a_b & 5 %", ("Model", "VICE"), (("r50|x_1 {50%}", (Cell(-0.25, -0.5, 0.1, True),)),))
    assert "| r50\\|x_1 {50%} | **-0.25 [-0.50, 0.10]** |" in table.to_markdown()
    latex = table.to_latex()
    assert r"r50|x\_1 \{50\%\} & \textbf{$-$0.25 [$-$0.50, 0.10]} \\" in latex
    assert r"\caption{a\_b \& 5 \%.}" in latex
    assert Cell(None).text() == Cell(float("nan")).text() == ""


def test_a_number_reads_as_inside_its_interval():
    assert Cell(0.0136, 0.0131, 0.0142).text() == "0.0136 [0.0131, 0.0142]"
    assert Cell(0.6208, 0.6205, 0.6212, best=True).text() == "0.6208 [0.6205, 0.6212]"
    assert Cell(0.25, 0.1, 0.4).text() == "0.25 [0.10, 0.40]"
    assert Cell(0.25, 0.25, 0.25).text() == "0.25 [0.25, 0.25]"


def test_vice_with_another_quality_is_called_so():
    measures = measure(simulated(60, classes=3), quality="recall", replicates=100)
    assert explanations_table(measures).heads[:3] == ("Explanation", "Recall", "VICE with recall")


def test_explanations_and_controls_of_a_table():
    samples = simulated(200, classes=6)
    measures = measure(samples, replicates=100)
    table = explanations_table(measures)
    names = [name for name, _ in table.rows]
    assert names[1:] == [*measures.methods, *(f"control: {name}" for name in measures.controls)]
    assert column(table, "VICE")[0] == Cell(
        measures.strict["vice"], measures.intervals["strict.vice"]["low"], measures.intervals["strict.vice"]["high"]
    )
    for name, control in measures.controls.items():
        cell = column(table, "headline's VICE minus it")[names.index(f"control: {name}")]
        assert (cell.value, cell.low, cell.high) == (
            control.difference,
            control.difference_low,
            control.difference_high,
        )
    assert not any(cell.best for _, cells in table.rows for cell in cells)


def test_every_number_and_every_pair_as_a_data_frame():
    pandas = pytest.importorskip("pandas")
    samples = simulated(120, classes=4)
    measures = measure(samples, replicates=100)
    numbers = measures.to_pandas().set_index("measure")
    assert numbers.index.is_unique
    assert numbers.loc["strict.vice", "value"] == measures.strict["vice"]
    assert numbers.loc["strict.vice", "low"] == measures.intervals["strict.vice"]["low"]
    assert {"paper.vice", "strict.ece_ml", "classification.mean_average_precision"} <= set(numbers.index)
    for path, reason in measures.undefined.items():
        if path in numbers.index:
            assert numbers.loc[path, "undefined"] == reason
    pairs = true_pairs(samples)
    frame = pairs.to_pandas(samples.classes)
    assert len(frame) == len(pairs)
    kept = frame.dropna(subset="iou")
    assert kept["logit"].corr(kept["iou"], method="spearman") == pytest.approx(measures.strict["vice"])
    assert isinstance(frame, pandas.DataFrame)
    assert set(frame["class"]) <= set(samples.classes)
    pandas.testing.assert_frame_equal(samples.to_pandas("pairs"), frame)


def test_a_frame_of_pairs_has_the_margins_on_changed_images_where_they_were_measured():
    pytest.importorskip("pandas")
    samples = simulated(60, classes=4)
    assert "margin" not in samples.to_pandas("pairs")
    without = np.random.default_rng(0).normal(size=len(samples.regions))
    measured = replace(samples, regions=replace(samples.regions, without_object=without))
    frame, pairs = measured.to_pandas("pairs"), true_pairs(measured)
    assert frame.columns[-2:].tolist() == ["margin", "without_object"]
    np.testing.assert_array_equal(frame["without_object"], pairs.regions.without_object)
    np.testing.assert_array_equal(frame["margin"] > 0, frame["predicted"])


def test_frames_of_polars_hold_what_those_of_pandas_hold():
    pytest.importorskip("polars")
    samples = simulated(60, classes=4)
    measures = measure(samples, replicates=100)
    pairs = true_pairs(samples)
    for polars, pandas in (
        (samples.to_polars(), samples.to_pandas()),
        (samples.to_polars("pairs"), samples.to_pandas("pairs")),
        (pairs.to_polars(samples.classes), pairs.to_pandas(samples.classes)),
        (measures.to_polars(), measures.to_pandas()),
        (explanations_table(measures).to_polars(), explanations_table(measures).to_pandas()),
    ):
        assert polars.columns == list(pandas.columns)
        assert "Object" not in {str(dtype) for dtype in polars.dtypes}
        for name in polars.columns:
            for found, expected in zip(polars[name].to_list(), pandas[name].tolist(), strict=True):
                assert _missing(found, expected) or np.array_equal(found, expected)


def _missing(*values):
    return all(value is None or (isinstance(value, float) and math.isnan(value)) for value in values)


def test_rows_of_a_frame_are_images_or_pairs():
    pytest.importorskip("pandas")
    samples = simulated(20)
    for rows in ("images", "pairs"):
        assert len(samples.to_pandas(rows))
    with pytest.raises(ViceError, match='`rows` must be "images" or "pairs", but is \'labels\''):
        samples.to_polars("labels")


def test_every_number_as_markdown_and_latex():
    measures = measure(simulated(60, classes=4), replicates=100)
    rows = dict(numbers_table(measures).rows)
    frame = measures.to_pandas()
    shown = frame[frame["value"].notna() & (frame["unit"] != "count")]
    assert len(rows) == len(numbers_table(measures).rows) == len(shown)
    vice = measure_of("strict.vice").full_label
    assert rows[vice] == (
        Cell(measures.strict["vice"], *(measures.intervals["strict.vice"][end] for end in ("low", "high"))),
    )
    assert f"| {vice} | {rows[vice][0].text()} |" in measures.to_markdown()
    assert measures.to_latex().count("toprule") == 1
    # Without replicates only errors have an interval, which is no bootstrap.
    bare = dict(numbers_table(measure(simulated(60), replicates=0)).rows)
    assert bare[vice] == (Cell(rows[vice][0].value),)
