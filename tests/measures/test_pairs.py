"""pairs: the true pairs of strict, each at a threshold that other images chose; and which of them are shown."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

import reference
from tables import THRESHOLDS, counts, scenes, table_of
from torchvice.errors import ViceError
from torchvice.measures import Pairs, fold_of, true_pairs
from torchvice.measures.case_selection import chosen_cases
from torchvice.measures.quadrants import QUADRANTS
from torchvice.measures.qualities import IOU_CUTOFF

SCENES = scenes(15, seed=7)


def test_fold_by_hand() -> None:
    # The first eight hexadecimal digits do not decide: the whole number modulo 5 does.
    digest = hashlib.sha256(b"2007_000032").hexdigest()
    total = 0
    for digit in digest:
        total = (total * 16 + int(digit, 16)) % 5
    assert fold_of("2007_000032") == total
    assert fold_of("ü") == reference.fold_of("ü")


def test_folds_are_five_and_about_equal() -> None:
    sizes = np.bincount([fold_of(f"image{i}") for i in range(5000)])
    assert len(sizes) == 5
    assert (abs(sizes - 1000) < 150).all()


def test_pairs_are_the_plain_loop() -> None:
    found = true_pairs(table_of(SCENES))
    rows, without = [], 0
    for scene in sorted(SCENES, key=lambda scene: scene.image_id):
        if scene.mask is None:
            continue
        for c in scene.true():
            pixels, said, shared = counts(scene, "strict")[c + 1]
            without += not pixels
            if pixels:
                iou = [i / (p + pixels - i) for p, i in zip(said, shared, strict=True)]
                rows.append((scene.image_id, c, scene.logits["strict"][c], iou))
    names, classes, logits, iou = zip(*rows, strict=True)
    assert found.image_id.tolist() == list(names)
    assert found.class_index.tolist() == list(classes)
    assert found.logit.tolist() == list(logits)
    assert found.iou.tolist() == [pytest.approx(row) for row in iou]
    assert found.without_pixels == without > 0
    chosen = reference.held_out(names, iou)
    assert found.chosen.tolist() == [THRESHOLDS[t] for t in chosen]
    assert found.quality == pytest.approx([row[t] for row, t in zip(iou, chosen, strict=True)])


def test_an_image_does_not_choose_its_own_threshold() -> None:
    # Whatever the maps of one image are, the threshold that it is measured at stays.
    before = true_pairs(table_of(SCENES))
    silent = {name: dict.fromkeys(maps, ((0.0,) * 4,) * 3) for name, maps in SCENES[2].maps.items()}
    after = true_pairs(table_of([*SCENES[:2], replace(SCENES[2], maps=silent), *SCENES[3:]]))
    own = before.image_id == SCENES[2].image_id
    assert own.any()
    assert (after.quality[own] == 0).all()
    assert after.chosen[own].tolist() == before.chosen[own].tolist()
    same_fold = np.array([fold_of(name) == fold_of(SCENES[2].image_id) for name in before.image_id])
    assert after.chosen[same_fold].tolist() == before.chosen[same_fold].tolist()


def test_one_fold_alone_chooses_on_itself() -> None:
    fold = [scene for scene in SCENES if fold_of(scene.image_id) == fold_of(SCENES[0].image_id) and scene.mask]
    found = true_pairs(table_of(fold))
    best = int(found.iou.mean(axis=0).argmax())
    assert set(found.chosen.tolist()) == {THRESHOLDS[best]}
    assert found.quality.tolist() == found.iou[:, best].tolist()


def test_the_first_of_equal_thresholds_wins() -> None:
    whole = ((0.9,) * 4,) * 3
    made = [
        replace(s, mask=((1,) * 4,) * 3, targets=(1, 0, 0), maps={"paper": {0: whole}, "strict": {0: whole}})
        for s in SCENES
    ]
    found = true_pairs(table_of(made))
    assert set(found.chosen.tolist()) == {0.0}
    assert set(found.quality.tolist()) == {1.0}


def test_no_pair_at_all() -> None:
    found = true_pairs(table_of([replace(scene, mask=None) for scene in SCENES]))
    assert len(found.logit) == len(found.quality) == len(found.chosen) == 0
    assert found.without_pixels == 0
    assert chosen_cases(found) == []


def test_a_table_without_strict_is_refused() -> None:
    with pytest.raises(ViceError, match="not assessed under `strict`, only under `paper`"):
        true_pairs(table_of(SCENES, ("paper",)))


def pairs(names: str, logit: list[float], quality: list[float]) -> Pairs:
    iou = np.array(quality)[:, None]
    none = np.zeros(len(logit), dtype=int)
    return Pairs(np.array(list(names), dtype=object), none, np.array(logit), iou, none * 0.0, iou[:, 0], 0)


def test_one_clear_case_of_every_kind() -> None:
    #            sure+there  sure+off  unsure+there  unsure+off  lukewarm
    made = pairs("abcde", [5.0, 4.0, -4.0, -5.0, 0.1], [0.9, 0.05, 0.8, 0.0, 0.3])
    found = {choice.kind: choice.row for choice in chosen_cases(made, 1)}
    assert found == {
        "right, looking at the object": 0,
        "right, looking elsewhere": 1,
        "wrong, though looking at the object": 2,
        "wrong, looking elsewhere": 3,
    }


def test_cases_fit_their_kind_and_show_an_image_once() -> None:
    rng = np.random.default_rng(1)
    made = pairs("abcdefghij" * 4, rng.normal(0, 2, 40).tolist(), rng.random(40).tolist())
    chosen = chosen_cases(made, 2)
    assert len({made.image_id[choice.row] for choice in chosen}) == len(chosen)
    for choice in chosen:
        assert (made.logit[choice.row] > 0) == choice.kind.startswith("right")
        assert (made.quality[choice.row] >= IOU_CUTOFF) == choice.kind.endswith("object")
    assert all(sum(choice.kind == kind for choice in chosen) <= 2 for kind in QUADRANTS.values())


def test_other_images_do_not_change_where_a_pair_belongs() -> None:
    rng = np.random.default_rng(2)
    logit, quality = rng.normal(0, 2, 9).tolist(), rng.random(9).tolist()
    few = {made.kind for made in chosen_cases(pairs("a", logit[:1], quality[:1]))}
    many = {made.kind for made in chosen_cases(pairs("abcdefghi", logit, quality), 9) if made.row == 0}
    assert few == many


def test_a_kind_without_examples_is_left_out() -> None:
    chosen = chosen_cases(pairs("ab", [3.0, 2.0], [0.9, 0.1]), 5)
    assert [choice.kind for choice in chosen] == ["right, looking at the object", "right, looking elsewhere"]
    with pytest.raises(ViceError, match="`each` must be at least 1, but is 0"):
        chosen_cases(pairs("ab", [3.0, 2.0], [0.9, 0.1]), 0)
