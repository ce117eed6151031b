"""What the study of photographs asks of its base recipe: images and changes are those of `vice assess`; the tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from torchvice.errors import ViceError
from torchvice.runs import Run
from torchvice.study import load_study
from torchvice.study.job import prepare, run_job


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The scripts of experiments/ that ask."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "experiments"))
    import photographs_findings
    import photographs_kept
    import photographs_probes

    return SimpleNamespace(findings=photographs_findings, kept=photographs_kept, probes=photographs_probes)


def test_a_subject_sees_and_changes_what_the_assessment_did(scripts, study_file) -> None:
    settings = {"transform.interpolation": "bicubic"}
    measure = {"replicates": 100, "controls": "none", "protocols": ["strict"], "without": ["object"]}
    run = load_study(study_file(axes={}, seeds=[1], settings=settings, measure=measure)).runs[0]
    prepare(run, load_study(study_file(axes={}, seeds=[1], settings=settings, measure=measure)).request)
    run_job(run.folder)
    subject = scripts.probes.Subject(Run(run.folder))
    images = subject.table.of_protocol("strict").images
    rows = [images.image_id.tolist().index(name) for name in subject.names]
    np.testing.assert_allclose(subject.logits, np.stack(images.logits[rows]), atol=1e-4)
    pairs, place = subject.pairs, {name: i for i, name in enumerate(subject.names)}
    asked = [(place[name], (int(c),)) for name, c in zip(pairs.image_id, pairs.class_index, strict=True)]
    own = subject.without(asked)[np.arange(len(asked)), pairs.class_index]
    assert len(own) > 20
    np.testing.assert_allclose(own, pairs.regions.without_object, atol=1e-4)
    assert {row["class"]: row["found"] for row in scripts.probes.by_class(subject)} == {
        name: int((pairs.predicted & (pairs.class_index == c)).sum()) for c, name in enumerate(subject.data.classes)
    }


def test_masks_are_redrawn(scripts) -> None:
    mask = np.zeros((12, 12), np.uint8)
    mask[3:7, 3:7], mask[3:7, 9], mask[7, 4] = 1, 2, 255

    def redrawn(pixels: int | None) -> np.ndarray:
        data = SimpleNamespace(classes=("a", "b"), records=[], targets=None, image=None, mask=lambda i: mask)
        return scripts.probes._Redrawn(data, pixels).mask(0)

    np.testing.assert_array_equal(redrawn(0), mask)
    grown = redrawn(1)
    assert (grown[2:8, 2:8] == 1).all()
    assert (grown[2:8, [8, 10]] == 2).all()
    assert (grown == 1).sum() == 36
    shrunk = redrawn(-1)
    assert np.argwhere(shrunk == 1).tolist() == [[4, 4], [4, 5], [5, 4], [5, 5]]
    assert (shrunk == 2).sum() == 4  # it would be gone
    mask[3, 6] = 0
    assert redrawn(None)[3, 6] == 1


def test_the_share_of_a_map_on_an_object(scripts) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :4] = 1
    data = SimpleNamespace(mask=lambda i: mask, records=[SimpleNamespace(image_id="a")])
    subject = scripts.probes.Subject(SimpleNamespace(dataset=lambda: data))
    vars(subject).update(images=torch.zeros(1, 3, 8, 8), maps={("a", 0): np.array([[3.0, 1.0]])})
    map_ = torch.tensor(
        [3.0, 3, 2.75, 2.25, 1.75, 1.25, 1, 1]
    )  # bilinear from two values, without their corners aligned
    assert scripts.probes.mass(subject, 0, 0, 0) == pytest.approx(float(map_[:4].sum() / map_.sum()), abs=0.02)
    subject.maps["a", 0][:] = 0
    assert scripts.probes.mass(subject, 0, 0, 0) is None


def test_one_number_is_above_another_as_often_as_counted(scripts) -> None:
    assert scripts.probes.above(np.array([1.0, 2.0]), np.array([0.0, 2.0, 3.0])) == pytest.approx(2.5 / 6)
    assert scripts.probes.above(np.array([1.0]), np.zeros(0)) is None


def test_the_tables_are_written_between_their_marks(scripts, tmp_path: Path) -> None:
    run = {
        "seed": 1,
        "classes": [
            {
                "class": "cat",
                "pairs": 9,
                "found": 8,
                "on_object": 0.5,
                "without_object": 0.25,
                "with_hole": None,
                "holes": 0,
            }
            | {"without_background": 0.75, "vice": 0.4}
        ],
        "together": [
            {"class": "cat", "with": None, "images": 20, "found": 8, "on_object": 0.5, "map_on_own": 0.4}
            | {"without_own": 0.2},
        ],
        "furniture": [
            {"class": "sofa", "images": 5, "over_neither": 0.9, "gone_over_neither": 0.8, "over_other": 0.7}
            | {"other_over_neither": 0.6, "correlation": 0.5}
        ],
        "captions": {"images": 3, "found": 2, "found_covered": 2, "fall_covered": 0.1, "fall_beside": -0.1}
        | {"without_horse": 9, "horse_before": 1, "horse_written": 2, "rise": 0.01, "rise_of_others": 0.0},
        "masks": [{"masks": "as drawn", "pairs": 9, "vice": 0.4, "ji": 0.3}],
    }
    second = {**run, "seed": 2, "classes": [{**run["classes"][0], "without_object": 0.35}]}
    tables = scripts.findings.tables({"runs": [run, second]})
    page = tmp_path / "page.md"
    page.write_text("".join(f"# {mark}\n<!-- {mark} -->\n<!-- end -->\n" for mark in tables))
    scripts.findings.write_tables(tables, page)
    text = page.read_text()
    # Wilson's intervals of 2, 3, 4 and 6 of 8, as statsmodels has them.
    of_classes = "50 ± 0 % (22 to 78) | 30 ± 7 % (7 to 69) | 75 ± 0 % (41 to 93)"
    assert f"| cat | 8, 8 | {of_classes} | – | 0, 0 | 0.400 ± 0.000 |" in text
    assert "| cat alone | 20 | 8, 8 | 50 ± 0 % (22 to 78) | 40 ± 0 % | – | 20 ± 0 % (7 to 59) | – | – |" in text
    assert "covering it lowers the horse's logit by 0.10, 0.10, and covering the same place" in text
    assert "2, 2 of these horses are found, and 2, 2 with it covered" in text
    assert "| as drawn | 9 | 0.400 ± 0.000 | 0.300 ± 0.000 |" in text
    without = scripts.findings.of_captions([{"captions": None}])
    assert without == "The photographs that have it are not among these."


def test_a_try_does_not_replace_the_kept_numbers(scripts) -> None:
    kept = scripts.findings.KEPT
    scripts.kept.check_asked(SimpleNamespace(data=Path("d"), images=None, kept=kept))
    scripts.kept.check_asked(SimpleNamespace(data=Path("d"), images=9, kept=Path("try/kept.json")))
    with pytest.raises(ViceError, match="A try on 9 images must not replace the numbers of the study"):
        scripts.kept.check_asked(SimpleNamespace(data=Path("d"), images=9, kept=kept))
    with pytest.raises(ViceError, match="The study needs its photographs"):
        scripts.kept.check_asked(SimpleNamespace(data=None, images=None, kept=kept))
