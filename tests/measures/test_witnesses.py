"""Witnesses: the events counted by hand, and the classes that a witness cannot judge."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from planted import planted
from torchvice.measures import true_pairs
from torchvice.measures.verdict import standing_out
from torchvice.measures.witnesses import WITNESSES, class_tests, events_of
from torchvice.samples import Samples


def with_columns(samples: Samples, *, logits: np.ndarray | None = None, without: np.ndarray | None = None) -> Samples:
    images, regions = samples.images, samples.regions
    if logits is not None:
        images = dataclasses.replace(images, logits=logits.astype(np.float32))
    if without is not None:
        regions = dataclasses.replace(regions, without_object=without)
    return Samples(samples.manifest, images, regions, samples.maps)


def test_a_score_is_compared_with_the_images_without_the_class() -> None:
    samples = planted(200, seed=4)
    logits = samples.images.logits - 2.0  # so that the thresholds of some classes are below 0
    samples = with_columns(samples, logits=logits)
    pairs = true_pairs(samples)
    event, known = events_of(pairs, samples)["score_without_object"]
    assert known.all()
    thresholds = []
    for c in range(6):
        negatives = sorted(float(logits[i, c]) for i in range(200) if samples.images.targets[i, c] == 0)
        place = 0.95 * (len(negatives) - 1)
        low = int(place)
        thresholds.append(negatives[low] + (place - low) * (negatives[low + 1] - negatives[low]))
    assert min(thresholds) < 0 < max(thresholds)
    for at in range(len(pairs)):
        least = min(thresholds[pairs.class_index[at]], 0.0)
        assert event[at] == (pairs.regions.without_object[at] > least)


def test_a_label_that_is_lost_without_its_object_can_name_its_class() -> None:
    samples = planted(400, seed=2)
    negative = samples.images.targets == 0
    samples = with_columns(samples, logits=np.where(negative, samples.images.logits - 4, samples.images.logits))
    pairs, headline = true_pairs(samples), samples.regions.explanation == "strict:cam"
    rng = np.random.default_rng(0)
    lost = np.where(samples.regions.label == 3, -0.5, -8 + rng.normal(size=len(headline)))  # class2: lost, but barely
    samples = with_columns(samples, without=np.where(headline, lost, np.nan))
    pairs = true_pairs(samples)
    assert not (pairs.regions.without_object > 0).any()
    rows = standing_out(class_tests(pairs, samples), samples.classes)
    assert [(row["class"], row["witness"]) for row in rows] == [("class2", "score_without_object")]


def test_classes_with_few_images_without_them_are_not_judged_by_their_scores() -> None:
    samples = planted(200, seed=1)
    targets = samples.images.targets.copy()
    targets[: 200 - 39, 1] = 1
    targets[200 - 39 :, 1] = 0
    samples = Samples(
        samples.manifest, dataclasses.replace(samples.images, targets=targets), samples.regions, samples.maps
    )
    pairs = true_pairs(samples)
    _, known = events_of(pairs, samples)["score_without_object"]
    assert (pairs.class_index == 1).any()
    np.testing.assert_array_equal(known, pairs.class_index != 1)
    tests = class_tests(pairs, samples)
    assert tests["score_without_object"].pairs[1] == 0
    assert np.isnan(tests["score_without_object"].p_value[1])


def exclusive(images: int, seed: int, **options: Any) -> Samples:
    """A table of one label an image; the rows of other labels are left out."""
    samples = planted(images, seed=seed, targets="exclusive", **options)
    label = samples.images.targets.argmax(axis=1)
    one = np.zeros_like(samples.images.targets)
    one[np.arange(images), label] = 1
    of_image = dict(zip(samples.images.image_id.tolist(), label.tolist(), strict=True))
    true = np.array([of_image[name] for name in samples.regions.image_id.tolist()]) == samples.regions.label - 1
    images_ = dataclasses.replace(samples.images, targets=one)
    return Samples(samples.manifest, images_, samples.regions.where(true), samples.maps)


def test_of_exclusive_classes_the_likeliest_counts_where_it_is_no_favourite() -> None:
    samples = exclusive(300, seed=1)
    rows = samples.regions.where(samples.regions.explanation == "strict:cam")
    margins: dict[int, list[float]] = {}
    for c in range(6):
        others = [row for row in range(len(rows)) if rows.label[row] != c + 1]
        margins[c] = sorted(
            float(rows.answer_margin[row]) if rows.answer_without_object[row] == c else 0.0 for row in others
        )
    pairs = true_pairs(samples)
    events = events_of(pairs, samples)
    assert list(events) == ["localisation", "without_object"]
    event, known = events["without_object"]
    assert known.all()
    assert 0 < event.sum() < (pairs.regions.without_object > 0).sum()
    for at, c in enumerate(pairs.class_index.tolist()):
        place = 0.95 * (len(margins[c]) - 1)
        low = int(place)
        threshold = margins[c][low] + (place - low) * (margins[c][low + 1] - margins[c][low])
        assert event[at] == (pairs.regions.without_object[at] > threshold)


def favouring(samples: Samples, favourite: int, seed: int) -> Samples:
    """The table of a network that answers `favourite` on nine of ten images without their object."""
    rng, regions = np.random.default_rng(seed), samples.regions
    margin, own = rng.gamma(2, 2, len(regions)), regions.label - 1
    favoured = (rng.random(len(regions)) < 0.9) & ~(regions.without_object > 3)
    answer = np.where(favoured, favourite, regions.answer_without_object)
    without = np.where(answer == own, margin, -margin)
    known = ~np.isnan(regions.answer_without_object)
    columns = {"without_object": without, "answer_without_object": answer, "answer_margin": margin}
    columns = {name: np.where(known, column, np.nan) for name, column in columns.items()}
    kept = {name: np.where(favoured, column, getattr(regions, name)) for name, column in columns.items()}
    return Samples(samples.manifest, samples.images, dataclasses.replace(regions, **kept), samples.maps)


def test_the_favourite_of_a_softmax_does_not_stand_out_and_a_shortcut_does() -> None:
    named = {}
    for seed in range(10):
        clean = favouring(exclusive(600, seed), 1, seed)
        pairs = true_pairs(clean)
        assert (pairs.regions.without_object[pairs.class_index == 1] > 0).mean() > 0.8
        named[seed] = standing_out(class_tests(pairs, clean), clean.classes)
    assert [rows for rows in named.values() if rows] == []
    found = 0
    for seed in range(10):
        samples = exclusive(600, seed, shortcut=3)
        rows = standing_out(class_tests(true_pairs(samples), samples), samples.classes)
        found += ("class3", "without_object") in {(row["class"], row["witness"]) for row in rows}
    assert found >= 6


def test_tables_without_answers_do_not_test_by_them() -> None:
    samples = exclusive(200, seed=1)
    lost = np.full(len(samples.regions), np.nan)
    regions = dataclasses.replace(samples.regions, answer_without_object=lost, answer_margin=lost)
    samples = Samples(samples.manifest, samples.images, regions, samples.maps)
    assert list(events_of(true_pairs(samples), samples)) == ["localisation"]


@pytest.mark.parametrize("witness", WITNESSES)
def test_every_witness_completes_the_sentence_about_found_labels(witness: str) -> None:
    assert WITNESSES[witness].startswith(("have ", "are "))
