"""The study of photographs: its page comes from the kept numbers alone, and no failure stops the other trainings."""

from __future__ import annotations

import importlib
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tables import scenes, table_of
from torchvice.files import write_json
from torchvice.samples import ShardFolder
from torchvice.study import load_study
from torchvice.study.table import compare_levels

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MEASURES = ("vice", "quality", "mean_average_precision", "loss", "ece_ml")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """A script of experiments/ as a module, by name; its neighbours import each other."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(EXPERIMENTS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def row(level: str, seed: int, vice: float) -> dict:
    """A run of a recipe, as the table of a study has it."""
    numbers = {
        "vice": vice,
        "vice_low": vice - 0.1,
        "vice_high": vice + 0.1,
        "paper_vice": vice / 2,
        "partial_spearman": vice,
        "vice_layercam": vice,
        "ji": 0.4,
        "mean_average_precision": 0.8,
        "ece_ml": 0.1,
    }
    run = {"run": f"{level}-{seed}", "architecture": level, "seed": seed, "status": "finished", "images": 445}
    return {**run, **numbers, "controls": "not above shuffled", "reason": None}


def against_base(measure: str, difference: float, p: float) -> dict:
    """A difference from the base."""
    limits = {"difference": difference, "low": difference - 0.02, "high": difference + 0.02, "p": p, "p_holm": p}
    return {"axis": "architecture", "first": "wide", "second": "small", "measure": measure, "seeds_first": 3, **limits}


def numbers(p: float) -> dict:
    """Kept numbers of a study of two recipes and three seeds."""
    rows = [row("small", seed, 0.5 + seed / 100) for seed in (1, 2, 3)]
    rows += [row("wide", seed, 0.4 + seed / 100) for seed in (1, 2)]
    rows.append({"run": "wide-3", "architecture": "wide", "seed": 3, "status": "failed", "reason": "the disk is full"})
    base = {
        "seed": 1,
        "classes": [{"name": "cat", "pairs": 9, "average_precision": 0.9, "quality": 0.5, "vice": 0.6}],
        "thresholds": [0.0, 0.1, 0.2],
        "threshold_vice": [0.1, 0.4, 0.5],
        "threshold_iou": [0.1, 0.3, 0.4],
        "draws": [{"images": 200, "mean": 0.5, "spread": 0.04}],
    }
    base["classes"][0] |= {"vice_low": 0.2, "vice_high": 0.8}
    study = {
        "axes": {"architecture": ["small", "wide"]},
        "base": {"architecture": "small"},
        "planned": 6,
        "rows": rows,
        "comparisons": [against_base(measure, -0.1, p) for measure in MEASURES],
        "matched": [{"recipe": "wide", "seed": 1, "difference": -0.07, "without_partner": 0.1}],
        "base_runs": [base],
        "figures": ["photographs_voc8_vice.png"],
    }
    return {"schema": 1, "date": "2026-11-27", "studies": {"voc8": study}}


def test_the_page_comes_from_the_kept_numbers_alone_and_twice_alike(script, tmp_path: Path) -> None:
    kept, page = script("photographs_kept"), tmp_path / "page.md"
    marks = ("run", "claims", "recipes voc8", "architecture voc8", "draws voc8", "thresholds voc8", "classes voc8")
    marks += ("figures voc8", "spread voc8", "agreement voc8", "matched voc8", "over all voc8")
    page.write_text("".join(f"# {mark}\n<!-- {mark} -->\n<!-- end -->\n" for mark in marks))
    kept.write_kept(numbers(0.01), tmp_path / "kept.json")
    found = kept.read_kept(tmp_path / "kept.json")
    script("photographs_page").write_page(found, page)
    text = page.read_text()
    assert "voc8: 5 of 6 trainings are finished." in text
    assert "Failed: wide-3: the disk is full" in text
    assert "| base | 3 | 0.520 ± 0.010 |" in text  # 0.51, 0.52, 0.53
    assert "**-0.100 (-0.120 to -0.080)**" in text
    assert "| The architecture changes VICE. | wide -0.100 (-0.120 to -0.080) | confirmed |" in text
    assert "(images/photographs_voc8_vice.png)" in text
    script("photographs_page").write_page(found, page)
    assert page.read_text() == text


def test_an_undecided_claim_has_its_largest_difference(script, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- claims -->\n<!-- end -->\n")
    script("photographs_page").write_page(numbers(0.5), page)
    said = "no difference established; the largest: wide -0.100 (-0.120 to -0.080)"
    assert f"| The architecture changes VICE. | {said} | not decided |" in page.read_text()


def test_holm_corrects_over_the_levels_of_an_axis_and_measure(script) -> None:
    rows = [{**against_base("vice", -0.1, p), "first": level} for level, p in (("wide", 0.01), ("deep", 0.04))]
    rows.append({**against_base("loss", -0.1, 0.03), "first": "wide"})
    rows.append({**against_base("vice", -0.1, 0.5), "first": "odd", "p": None})
    found = [row["p_holm"] for row in script("photographs_kept").corrected(rows)]
    assert found == [pytest.approx(0.02), pytest.approx(0.04), pytest.approx(0.03), None]


@pytest.mark.parametrize(
    ("difference", "p", "said"), [(-0.1, 0.01, "confirmed"), (0.01, 0.6, "contradicted"), (-0.1, 0.2, "not decided")]
)
def test_a_claim_is_contradicted_only_by_intervals_near_zero(script, difference: float, p: float, said: str) -> None:
    assert script("photographs_page").verdict([against_base("vice", difference, p)]) == said


def test_without_kept_numbers_the_page_is_refused(script, tmp_path: Path) -> None:
    from torchvice.errors import ViceError

    with pytest.raises(ViceError, match="No kept numbers found"):
        script("photographs_kept").read_kept(tmp_path / "kept.json")


def test_past_the_deadline_no_training_begins(script, tmp_path: Path) -> None:
    pool = script("photographs_pool")
    tasks = [pool.Task("run", tmp_path / "a")]
    assert list(pool.Pool(2, until=time.monotonic() - 1).run(tasks)) == []


@pytest.mark.slow  # two processes import torch
def test_a_failed_training_is_a_reason_and_the_others_go_on(script, tmp_path: Path) -> None:
    pool = script("photographs_pool")
    tasks = [pool.Task("run", tmp_path / "a"), pool.Task("run", tmp_path / "b", after=tmp_path / "a")]
    ended = [(task.folder.name, reason) for task, reason, _ in pool.Pool(2).run(tasks)]
    assert [name for name, _ in ended] == ["a", "b"]
    assert all("settings.yaml" in reason for _, reason in ended)
    assert (tmp_path / "a" / "failed.json").is_file()


def finish(run, request, seed: int) -> None:
    """Leave a finished run with a table of 40 made images, the same for every run, whose logits depend on `seed`."""
    folder = run.folder / "assess" / run.settings.data.eval_split
    made = table_of(scenes(40, seed=1), model={"type": "Toy", "weights_sha256": str(seed)}, finished=True)
    noise = np.random.default_rng(seed).normal(size=made.images.logits.shape).astype(np.float32)
    made.images.logits[:] += np.tile(noise[: len(noise) // 2], (2, 1))
    shards = ShardFolder(folder)
    shards.start({**made.manifest, "added": []})
    shards.append(made.images, made.regions, made.maps)
    row = {"vice": 0.1 * seed, "mean_average_precision": 0.5, "ece_ml": 0.1}
    write_json(run.folder / "study.json", {"asked": request.model_dump(mode="json"), "row": row})


def test_a_kept_base_gives_the_differences_of_the_whole_one(script, study_file, tmp_path: Path) -> None:
    shelf = script("photographs_shelf")
    axes = {"optimizer.weight_decay": [0.05, 0.0, 0.5]}
    asked = {"axes": axes, "one_at_a_time": True, "compare": "base", "measure": {"replicates": 100}}
    study = load_study(study_file(**asked, seeds=[1, 2, 3]))
    for place, run in enumerate(study.runs):
        finish(run, study.request, place)
    base, first, second = shelf.recipes_of(study)
    assert [one.name for one in (base, first, second)] == [
        "base",
        "optimizer.weight_decay=0.0",
        "optimizer.weight_decay=0.5",
    ]
    assert base.ended()
    before = compare_levels(first.part)
    assert [row["reason"] is None for row in before] == [row["p"] is not None for row in before]
    assert any(row["p"] is not None for row in before)

    kept = shelf.Shelf(tmp_path / "shelf")
    kept.keep(base, {"rows": [1]})
    kept.keep(first, {"rows": [2]})
    assert shelf.left_of(study, kept) == []
    shutil.rmtree(second.runs[0].folder)
    for run in base.runs:  # another machine
        shutil.rmtree(run.folder)
    assert shelf.left_of(study, kept) == [second.runs[0]]
    assert not first.ended()
    kept.restore(base)
    assert compare_levels(first.part) == before

    assert kept.held(first) == {"rows": [2]}
    other = load_study(study_file(**asked, seeds=[1, 2, 4]))
    assert [kept.held(one) for one in shelf.recipes_of(other)] == [None] * 3
    assert shelf.together([{"rows": [1]}, {"rows": [2, 3]}]) == {"rows": [1, 2, 3]}
