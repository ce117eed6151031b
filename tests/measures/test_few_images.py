"""What too few images, or too many replicates without a value, leave: numbers, but no interval, no p and no claim."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from simulated import simulated
from torchvice.commands.rank import rank
from torchvice.errors import ViceError
from torchvice.measures import compare, measure
from torchvice.measures.inference import too_few_images
from torchvice.metrics import share_interval
from torchvice.metrics.permutation import freedman_lane_p
from torchvice.report.page.numbers import shown_path, tables_of
from torchvice.report.page.text import sentences_of as page_sentences
from torchvice.samples import Samples
from ways_out import tried

FEW = "Too few images for intervals and tests: {}, and 10 are needed."


def table(images: int, seed: int = 0, classes: int = 40, **more: object) -> Samples:
    return simulated(images, seed, classes, dependence=2.0, others={"strict:random": {"role": "control"}}, **more)


def one_object_covered(images: int = 24) -> Samples:
    """A table in which the maps of a single image cover objects: without it VICE is undefined."""
    whole = simulated(images, 3, classes=8)
    covered = (whole.regions.image_id == whole.images.image_id[0])[:, None]
    regions = dataclasses.replace(
        whole.regions,
        intersection=np.where(covered, whole.regions.intersection, 0),
        predicted=np.where(covered, whole.regions.predicted, 0),
    )
    return Samples(whole.manifest, whole.images, regions, whole.maps)


def said(found: object) -> str:
    """The page's sentences below the verdict."""
    sentences = page_sentences(found, None)
    return " ".join("".join(part if isinstance(part, str) else part.text for part in s) for s in sentences)


@pytest.mark.parametrize("images", [1, 2, 3, 9])
def test_few_images_have_numbers_but_no_interval_no_p_and_no_claim(images: int) -> None:
    found = measure(table(images), replicates=100)
    assert math.isfinite(found.strict["vice"])
    assert found.verdict.vice["pairs"] > 10
    assert all("Wilson" in one["method"] for one in found.intervals.values())
    assert found.tests == {}
    why = FEW.format(images)
    for path in ("strict.vice", "strict.ji", "sensitivities.kendall", "sensitivities.vice_energy"):
        assert found.undefined[f"intervals.{path}"] == why
    assert found.undefined["tests.strict.vice"] == found.undefined["tests.sensitivities.partial_spearman"] == why
    assert found.controls["random"].beaten is None
    assert all(row.vice_low is None for row in (*found.classes, *found.strata))
    text = " ".join(found.verdict.sentences)
    assert "The surer" not in text
    if found.verdict.vice["pairs"] >= 30:
        assert f"No association of certainty and map is established: VICE {found.strict['vice']:.2f}" in text
        assert why in text
    assert "the surer it is" not in said(found)
    json.dumps(found.to_json(), allow_nan=False)
    assert not [one for one in tables_of(found) if one.caption == "Tests of a connection"]


def test_ten_images_have_intervals_and_tests() -> None:
    found = measure(table(10), replicates=100)
    assert found.intervals["strict.vice"]["low"] > 0
    assert 0 < found.tests["strict.vice"]["p"] <= 1
    assert not [path for path in found.undefined if path.startswith(("intervals.", "tests."))]
    assert "The surer the model is of a label" in " ".join(found.verdict.sentences)
    assert found.controls["random"].beaten is not None
    assert (too_few_images(9), too_few_images(10)) == (FEW.format(9), "")


def test_what_a_number_lacks_has_a_name() -> None:
    assert shown_path("intervals.strict.vice") == "interval of VICE (strict)"
    assert shown_path("tests.sensitivities.partial_spearman").startswith("p of ")


@pytest.mark.parametrize("images", [1, 2, 9])
def test_few_images_tell_no_models_apart(images: int) -> None:
    models = {name: _with_noise(table(images), seed) for seed, name in enumerate("abc")}
    found = compare(models, replicates=100)
    for row in found.differences:
        assert (row["low"], row["p"], row["p_holm"], row["reason"]) == (None, None, None, FEW.format(images))
        assert row["difference"] is not None
    assert f"a and b; a and c; b and c cannot be compared: {FEW.format(images)}" in found.sentences
    assert not [sentence for sentence in found.sentences if "stablished" in sentence or "replicates" in sentence]
    tried(
        lambda: rank(models, replicates=100),
        "Assess the models on more images.",
        lambda: rank({"a": table(12), "b": _with_noise(table(12), 1)}, replicates=100),
    )
    with pytest.raises(ViceError, match=rf"VICE \(strict\) that has an interval, but 0 of 3 have one\. a: {FEW[:12]}"):
        rank(models, replicates=100)


def test_few_images_tell_no_groups_of_seeds_apart() -> None:
    one = table(5)
    noisy = {f"{k}{i}": _with_noise(one, 3 * k + i) for k in range(2) for i in range(3)}
    found = compare(noisy, groups={"A": ["00", "01", "02"], "B": ["10", "11", "12"]}, replicates=100)
    (row,) = found.seeds
    assert (row["p"], row["reason"]) == (None, FEW.format(5))
    assert f"No claim about A against B: {FEW.format(5)}" in found.sentences


def test_groups_of_equal_seeds_say_that_nothing_varies() -> None:
    one = table(20)
    found = compare(dict.fromkeys(("a", "b", "c", "d", "e", "f"), one), groups={"A": "abc", "B": "def"}, replicates=100)
    assert found.seeds[0]["p"] is None
    assert (
        "No claim about A against B: The difference varies neither over the seeds nor over the images."
        in found.sentences
    )


def _with_noise(samples: Samples, seed: int) -> Samples:
    logits = samples.images.logits + np.random.default_rng(seed).normal(0, 1, samples.images.logits.shape)
    return dataclasses.replace(samples, images=dataclasses.replace(samples.images, logits=logits.astype(np.float32)))


def test_models_of_few_masks_are_ranked_by_what_all_images_have() -> None:
    whole = simulated(40)
    masked = np.arange(40) < 6
    kept = np.isin(whole.regions.image_id.astype(str), whole.images.image_id[masked].astype(str))
    few = dataclasses.replace(
        whole, images=dataclasses.replace(whole.images, has_mask=masked), regions=whole.regions.where(kept)
    )
    models = {f"m{i}": _with_noise(few, i) for i in range(3)}
    with pytest.raises(ViceError, match="Too few images for intervals and tests: 6") as refused:
        rank(models, replicates=100)
    assert refused.value.way_out == "Rank by another measure: --by ml_accuracy."
    found = rank(models, by="ml_accuracy", replicates=100)
    for row in found.models:
        assert row["rank"] is not None
        assert (row["vice"] is None, row["vice_low"], row["on_front"]) == (False, None, None)
        assert row["undefined"] == dict.fromkeys(("vice", "ji"), FEW.format(6))


def test_a_share_of_few_images_has_the_interval_of_as_many_rows_as_images() -> None:
    # Four images of five rows each, in which all rows of an image agree in turn: shares .4 and .6 of the images.
    events = np.tile([1, 1, 0, 1, 0], 4)
    assert share_interval(events, np.repeat(np.arange(4), 5)).low < share_interval(events, np.arange(20)).low
    own = share_interval([1, 0, 1, 1], range(4))
    wide = share_interval(np.repeat([1, 0, 1, 1], 5), np.repeat(np.arange(4), 5))
    assert (wide.low, wide.high) == pytest.approx((own.low, own.high))


def test_an_undefined_test_is_left_out_with_its_reason() -> None:
    # The area is the order of the logits: nothing is left of them.
    samples = simulated(60, classes=1)
    order = np.argsort(np.argsort(samples.images.logits[:, 0]))
    pixels = 100 + 10 * order
    scale = pixels[:, None] / samples.regions.mask_pixels[:, None]
    regions = dataclasses.replace(
        samples.regions,
        mask_pixels=pixels,
        intersection=np.round(samples.regions.intersection * scale).astype(np.int64),
        predicted=np.round(samples.regions.predicted * scale).astype(np.int64),
    )
    found = measure(dataclasses.replace(samples, regions=regions), replicates=100)
    logit, area = samples.images.logits[:, 0], pixels / 1e4
    assert np.isnan(freedman_lane_p(logit, np.arange(60.0), area, np.ones(60)))
    assert list(found.tests) == ["strict.vice"]
    assert found.undefined["tests.sensitivities.partial_spearman"] == (
        "Size and label count leave nothing to correlate."
    )
    (tests,) = [one for one in tables_of(found) if one.caption == "Tests of a connection"]
    assert [row[1][0] for row in tests.rows] != ["below 0.001", "below 0.001"]


def test_replicates_without_a_value_are_the_reason_for_no_interval() -> None:
    samples = one_object_covered()
    found = measure(samples, replicates=200)
    assert math.isfinite(found.strict["vice"])
    assert "strict.vice" not in found.intervals
    why = found.undefined["intervals.strict.vice"]
    assert 0.05 * 200 < int(why.split()[0]) < 200
    assert why.endswith("of 200 replicates have no value.")
    assert found.verdict.vice["pairs"] >= 30
    text = " ".join(found.verdict.sentences)
    assert f"No association of certainty and map is established: VICE {found.strict['vice']:.2f}" in text
    assert why in text
    assert "without an interval no connection between certainty and map is established" in said(found)
    assert why in said(found)


def test_what_cannot_be_compared_says_why() -> None:
    samples = one_object_covered()
    both = {"a": samples, "b": _with_noise(samples, 1)}
    (row, *_) = compare(both, replicates=200).differences
    assert row["reason"].endswith("of 200 replicates have no value.")
    assert f"a and b cannot be compared: {row['reason']}" in compare(both, replicates=200).sentences
    flat = dataclasses.replace(samples.images, logits=np.zeros_like(samples.images.logits))
    found = compare({"a": samples, "b": dataclasses.replace(samples, images=flat)}, replicates=200)
    assert "a and b cannot be compared: VICE is undefined for b." in found.sentences
    with pytest.raises(
        ViceError, match=r"has an interval, but 0 of 2 have one\. a: \d+ of 200 replicates have no value"
    ):
        rank(both, replicates=200)


def test_one_model_without_replicates_is_not_ranked_and_not_said_to_be_undefined() -> None:
    whole, part = simulated(24, 3, classes=8), one_object_covered(24)
    found = rank({"a": whole, "b": _with_noise(whole, 1), "part": part}, replicates=200)
    row = next(row for row in found.models if row["name"] == "part")
    assert (row["rank"], row["vice"] is None) == (None, False)
    why = row["undefined"]["vice"]
    assert f"1 without a rank, as VICE (strict) has no interval: part. First reason: {why}" in found.sentences
