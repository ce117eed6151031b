"""The page of a study: what its files say, in words and numbers; and the front and the means that it draws."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import COMPARED, MEANS, difference, rows_of, run_row, study_folder

from torchvice.errors import ViceError
from torchvice.report.study.page import _away, write_study_page
from torchvice.report.study.recipes import StudyTable, is_study, pareto_front, read_study
from torchvice.report.study.text import facts_of_study, sentences_of_study

TOLD = {"name": "four networks", "axes": {"network": ["a", "b", "c", "d"]}, "planned": 12, "one_at_a_time": False}


def page(folder: Path) -> str:
    return write_study_page(folder / "report.html", read_study(folder)).read_text(encoding="utf-8")


def data_of(text: str) -> Any:
    found = re.search(r'id="data">(.*?)</script>', text)
    assert found
    return json.loads(found[1])["study"]


def said(table: StudyTable) -> list[str]:
    sentences = sentences_of_study(table, table.recipes())
    return ["".join(part if isinstance(part, str) else part.text for part in sentence) for sentence in sentences]


def test_the_front_is_that_of_the_plain_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [tuple(point) for point in rng.integers(0, 6, (rng.integers(1, 12), 2)).tolist()]
        beaten = [any(q[0] >= p[0] and q[1] >= p[1] and (q[0] > p[0] or q[1] > p[1]) for q in points) for p in points]
        front = pareto_front(points)
        assert sorted(front) == [at for at, lost in enumerate(beaten) if not lost]
        assert [points[at][0] for at in front] == sorted(points[at][0] for at in front)
    assert pareto_front([]) == []


def test_both_fronts_and_their_sentences(tmp_path: Path) -> None:
    text = page(study_folder(tmp_path, rows_of(), COMPARED, **TOLD))
    first = data_of(text)["choices"][0]
    names = list(MEANS)
    assert [[names[at] for at in panel["on"]] for panel in first["panels"]] == [["b", "a"], ["b", "c"]]
    assert (
        "On the Pareto front (higher VICE, lower ECE-ML) are 2 of 4 recipes: b (VICE 0.500, ECE-ML 0.060) and "
        "c (VICE 0.400, ECE-ML 0.030). The front compares means and ignores their noise." in text
    )


def test_every_vice_is_a_choice_and_the_protocols_are_not_mixed(tmp_path: Path) -> None:
    choices = data_of(page(study_folder(tmp_path, rows_of())))["choices"]
    assert [(choice["name"], [panel["x"] for panel in choice["panels"]]) for choice in choices] == [
        ("VICE (strict)", ["mean_average_precision", "ece_ml"]),
        ("VICE, gradcam", ["mean_average_precision", "ece_ml"]),
        ("VICE (paper)", ["mean_average_precision", "paper_ece_ml"]),
    ]
    # gradcam's VICE is 0.6 - VICE: 0.4, 0.1, 0.2, 0.5; mAP 0.9, 0.8, 0.7, 0.85; ECE-ML 0.09, 0.06, 0.03, 0.08.
    assert [[list(MEANS)[at] for at in panel["on"]] for panel in choices[1]["panels"]] == [["d", "a"], ["d", "c"]]


def test_means_and_deviations_are_those_of_the_finished_runs(tmp_path: Path) -> None:
    rows = rows_of()
    rows[2] |= dict.fromkeys(("vice", "vice_low", "vice_high", "mean_average_precision")) | {"status": "failed"}
    rows[2] |= {"reason": "its loss is not finite"}
    table = read_study(study_folder(tmp_path, rows, **TOLD))
    mean = table.mean(table.recipes()[0], "vice")
    assert mean.value == pytest.approx(0.195)  # of 0.20 and 0.19
    assert mean.sd == pytest.approx(statistics.stdev([0.2, 0.19]))
    assert mean.n == 2
    text = page(tmp_path)
    assert "11 finished, 1 failed of 12 planned" in text
    assert "✗ failed" in text
    assert "its loss is not finite" in text
    assert "<small>1 failed</small>" in text
    assert "1 recipe has fewer than three finished seeds, the minimum for a claim: a." in text


def test_the_head_says_what_is_established_and_what_not(tmp_path: Path) -> None:
    table = read_study(study_folder(tmp_path, rows_of(), COMPARED, **TOLD))
    assert said(table) == [
        "The study has 4 recipes over the axis network (4 levels): 12 runs of 12 planned are finished.",
        "VICE is highest for b (0.500, standard deviation 0.010 over 3 seeds) and lowest for d (0.100, standard "
        "deviation 0.010 over 3 seeds).",
        "Of 3 differences of VICE 2 are established, the strongest: network a \N{MINUS SIGN} b -0.300 (-0.350 to "
        "-0.250, p 0.001); network a \N{MINUS SIGN} c -0.200 (-0.250 to -0.150, p 0.049). The other 1 is not, which "
        "does not show that the levels are equal.",
        "Established of the other measures: ECE-ML 1 of 3.",
    ]
    assert ("Runs", "12 finished of 12 planned") in facts_of_study(table)


def test_of_many_differences_the_strongest_three_are_named(tmp_path: Path) -> None:
    rows = [difference(f"n{at}", "b", "vice", 0.1, 0.04 / (at + 1)) for at in range(20)]
    table = read_study(study_folder(tmp_path, rows_of(), rows, **TOLD))
    (head,) = [one for one in said(table) if one.startswith("Of 20 differences")]
    assert "20 are established" in head
    assert re.findall(r"network (n\d+)", head) == ["n19", "n18", "n17"]


def test_nothing_established_says_the_least_p(tmp_path: Path) -> None:
    rows = [difference("a", "b", "vice", 0.1, 0.7), difference("a", "c", "vice", -0.02, 0.3)]
    table = read_study(study_folder(tmp_path, rows_of(), rows, **TOLD))
    assert (
        "None of 2 differences of VICE is established; the smallest p after Holm is 0.300, for network a "
        "\N{MINUS SIGN} c (-0.020, -0.070 to +0.030)." in said(table)
    )


def test_one_seed_supports_no_claim_and_says_why(tmp_path: Path) -> None:
    reason = "A claim about two models needs at least 3 seeds of each, but there are 1 and 1."
    rows = [difference("a", second, "vice", None, None, reason=reason) for second in "bc"]
    folder = study_folder(tmp_path, rows_of(seeds=1), rows, **TOLD)
    text = page(folder)
    assert (
        "No recipe has three finished seeds, the minimum for a claim about a recipe. "
        f"2 comparisons have no result: {reason}" in said(read_study(folder))
    )
    assert f"None of 2 differences supports a claim. {reason}" in text
    assert said(read_study(folder))[1] == "VICE is highest for b (0.500, one run) and lowest for d (0.100, one run)."


@pytest.mark.parametrize(
    ("rows", "comparisons", "words"),
    [
        ([run_row("a", 1, 0.2, 0.9, 0.1)], None, "Only one recipe has a VICE: a"),
        ([run_row("a", 1, None, 0.9, 0.1)], None, "VICE (strict) is undefined for every run"),
        ([run_row("a", 1, None, None, None)], None, "There is nothing to draw: no run has a VICE."),
        ([run_row("a", 1, 0.2, None, None)], None, "There is no Pareto front: no recipe has both VICE and mAP."),
        (rows_of(), None, "No comparison yet"),
        (rows_of({"a": MEANS["a"]}), None, "No comparison: no axis has finished runs at two levels."),
    ],
)
def test_what_is_empty_is_a_sentence(tmp_path: Path, rows: Any, comparisons: Any, words: str) -> None:
    text = page(study_folder(tmp_path, rows, comparisons))
    assert words in re.sub(r"</?span[^>]*>", "", text)
    assert "nan" not in re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL).lower().split()


def test_without_a_description_the_axes_are_the_columns_before_the_seed(tmp_path: Path) -> None:
    table = read_study(study_folder(tmp_path / "old", rows_of()))
    assert table.axes == {"network": ("a", "b", "c", "d")}
    assert (table.name, table.base, table.planned) == ("old", {}, None)
    assert [recipe.name for recipe in table.recipes()] == ["a", "b", "c", "d"]


def test_no_controls_read_as_a_dash_and_not_as_none_beaten(tmp_path: Path) -> None:
    rows = [run_row("a", 1, 0.2, 0.9, 0.1), run_row("b", 1, 0.3, 0.9, 0.1, controls="none")]  # of an earlier version
    folder = study_folder(tmp_path / "mixed", rows)
    assert [row["controls"] for row in read_study(folder).rows] == ["above all", None]
    cells = [re.sub("<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", page(folder), re.DOTALL)]
    assert "above all" in cells
    assert "none" not in cells
    bare = study_folder(tmp_path / "bare", [{**row, "controls": None} for row in rows])
    assert "study.controls" not in page(bare).split("</table>")[0]


def test_an_axis_of_one_level_is_in_no_name(tmp_path: Path) -> None:
    rows = [{"run": row["run"], "data": "x", **row} for row in rows_of()]
    table = read_study(study_folder(tmp_path, rows))
    assert list(table.axes) == ["data", "network"]
    assert [recipe.name for recipe in table.recipes()] == ["a", "b", "c", "d"]
    assert [recipe.name for recipe in read_study(study_folder(tmp_path, rows[:1])).recipes()] == ["x, a"]


def test_around_a_base_recipes_are_named_by_what_they_change(tmp_path: Path) -> None:
    told = {**TOLD, "one_at_a_time": True, "base": {"network": "b"}}
    table = read_study(study_folder(tmp_path, rows_of(), **told))
    assert [recipe.name for recipe in table.recipes()] == ["network a", "base", "network c", "network d"]
    assert ("Base", "network b") in facts_of_study(table)


def test_any_axis_combination_and_measure_of_the_rows_is_shown(tmp_path: Path) -> None:
    rows = [difference("a", "b", "sharpness_of_maps", 0.1, 0.01, others=f"data {data}") for data in ("x", "y")]
    rows += [difference(str(at), "b", "vice", 0.1, 0.01, axis="other", others="data x") for at in range(3)]
    rows += [difference(str(at), "b", "vice", 0.1, 0.01, axis="other", others="data y") for at in range(3)]
    groups = data_of(page(study_folder(tmp_path, rows_of(), rows, **TOLD)))["effects"]
    # Few pairs share a figure, in which each names its combination; more have one each.
    assert [(group["axis"], group["others"], group["named"]) for group in groups] == [
        ("network", "every combination of the other axes", True),
        ("other", "data x", False),
        ("other", "data y", False),
    ]
    (measure,) = groups[0]["measures"]
    assert measure["name"] == "sharpness of maps"
    assert [row["others"] for row in measure["rows"]] == ["data x", "data y"]


def test_combinations_around_a_base_are_named_by_what_they_change(tmp_path: Path) -> None:
    told = {**TOLD, "one_at_a_time": True, "base": {"network": "b", "data": "x"}}
    rows = [difference("a", "b", "vice", 0.1, 0.01, axis="other", others=others) for others in ("data x", "data y")]
    table = replace(read_study(study_folder(tmp_path, rows_of(), rows, **told)), base=told["base"])
    text = write_study_page(tmp_path / "page.html", table).read_text(encoding="utf-8")
    ((measure,),) = (group["measures"] for group in data_of(text)["effects"])
    assert [row["away"] for row in measure["rows"]] == ["base", "data y"]
    plain = data_of(page(study_folder(tmp_path / "grid", rows_of(), rows, **TOLD)))["effects"]
    assert [row["away"] for row in plain[0]["measures"][0]["rows"]] == ["data x", "data y"]


def test_a_level_of_the_base_may_hold_a_comma() -> None:
    base = {"data": "clean", "regularisation.randaugment": "[2, 9]"}
    table = StudyTable("s", Path(), {}, [], base=base)
    assert _away(table, "data clean, regularisation.randaugment [2, 9]") == "base"
    assert _away(table, "data other, regularisation.randaugment [2, 9]") == "data other"
    assert _away(table, "data clean, regularisation.randaugment [2, 9, 1]") == "regularisation.randaugment [2, 9, 1]"


def test_a_run_that_has_a_page_is_linked_from_wherever_this_one_lies(tmp_path: Path) -> None:
    folder = study_folder(tmp_path / "a study", rows_of(seeds=1), **TOLD)
    assert "<a href=" not in page(folder).partition('id="tables"')[2]
    (folder / "runs" / "b-s1").mkdir(parents=True)
    (folder / "runs" / "b-s1" / "report.html").write_text("x")
    assert '<a href="runs/b-s1/report.html">b-s1</a>' in page(folder)
    there = write_study_page(tmp_path / "page.html", read_study(folder)).read_text(encoding="utf-8")
    assert '<a href="a%20study/runs/b-s1/report.html">b-s1</a>' in there


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    hostile = '<img src=x onerror=alert(1)> "q\'uote" </script><!-- & 🐈'
    rows = [run_row(hostile, 1, 0.2, 0.9, 0.1), run_row("b", 1, 0.3, 0.8, 0.1)]
    text = page(
        study_folder(tmp_path, rows, [difference(hostile, "b", "vice", 0.1, 0.01, others=hostile)], name=hostile)
    )
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt; &#34;q&#39;uote&#34;" in text
    assert data_of(text)["recipes"][0]["name"] == hostile


def test_a_study_is_told_by_its_files(tmp_path: Path) -> None:
    assert is_study(study_folder(tmp_path / "study", rows_of()))
    assert not is_study(tmp_path)
    assert not is_study(tmp_path / "none")
    (tmp_path / "study" / "config.yaml").write_text("")
    assert not is_study(tmp_path / "study")  # a RUN
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "study.json").write_text("{}")
    assert is_study(tmp_path / "begun")


def test_files_that_are_no_study_are_told(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(ViceError, match="none has ended"):
        read_study(tmp_path)
    (tmp_path / "table.parquet").write_bytes(b"no parquet")
    with pytest.raises(ViceError, match="cannot be read"):
        read_study(tmp_path)
    study_folder(tmp_path, [{"name": "x", "vice": 0.1}])
    with pytest.raises(ViceError, match="must have the columns run, seed and status"):
        read_study(tmp_path)
    study_folder(tmp_path, rows_of(), [{"axis": "network", "first": "a"}])
    with pytest.raises(ViceError, match="must have `others`"):
        read_study(tmp_path)
    study_folder(tmp_path, rows_of(), COMPARED, axes=["network"])
    with pytest.raises(ViceError, match="must be objects"):
        read_study(tmp_path)


def test_the_page_says_which_runs_were_given(tmp_path: Path) -> None:
    trained, given = (
        {"origin": "trained", "checkpoint_path": None},
        {"origin": "given", "checkpoint_path": "nets/b.pth"},
    )
    rows = [run_row("a", seed, 0.4, 0.8, 0.1, **trained) for seed in (1, 2, 3)]
    rows += [run_row("b", 1, 0.5, 0.7, 0.1, **given) | {"run": "b", "seed": None, "train_seconds": None}]
    folder = study_folder(tmp_path, rows, axes={"network": ["a", "b"]}, seeds=[1, 2, 3], planned=4)
    table = read_study(folder)
    assert dict(facts_of_study(table))["Origin"] == "3 trained, 1 given"
    assert dict(facts_of_study(table))["Seeds"] == "1, 2, 3"
    page_text = page(folder)
    assert "1 of 4 runs is a given checkpoint, not trained here." in page_text
    assert page_text.count('<td data-key="given">given</td>') == 1
    assert page_text.count('<td data-key="trained">trained</td>') == 3
    assert "<small>1 given</small>" in page_text
    assert data_of(page_text)["runs"][3] == {"name": "b", "seed": None, "recipe": 1, "given": True}
    # A study that trains everything says nothing of it.
    plain = study_folder(tmp_path / "plain", rows_of(), axes={"network": list("abcd")}, seeds=[1, 2, 3])
    assert "Origin" not in dict(facts_of_study(read_study(plain)))
    assert "not trained here" not in "".join(said(read_study(plain)))
