"""Groups of what maps peak on outside the object: by hand, on simulated features, and where there must be none."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from torchvice.measures.looked_at import MOST_PAIRS, Group, _alike, _median_interval, looked_at, place_of, sentence
from torchvice.measures.pairs import Pairs
from torchvice.samples import FEATURES, HISTOGRAM_BINS, Regions

SEVEN = 7
FLOAT32 = 1e-6


def pairs_of(features: np.ndarray, classes: np.ndarray, **columns: Any) -> Pairs:
    """Found pairs of images named by their row; peaks and margins of `columns`, else undefined."""
    count = len(features)
    names = np.array([f"{row:05d}" for row in range(count)], dtype=object)
    logit = columns.pop("logit", np.ones(count))
    zeros = np.zeros((count, 1))
    regions = Regions.of(
        image_id=names,
        explanation=np.full(count, "strict:cam", dtype=object),
        label=classes + 1,
        status=np.full(count, "ok", dtype=object),
        mask_pixels=np.ones(count, int),
        predicted=zeros,
        intersection=zeros,
        inside=np.zeros((count, HISTOGRAM_BINS)),
        outside=np.zeros((count, HISTOGRAM_BINS)),
        peak_features=features.astype(np.float32),
        **columns,
    )
    return Pairs(names, classes, logit, zeros, zeros[:, 0], zeros[:, 0], 0, regions=regions)


def directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors without anything in common."""
    vectors = rng.normal(size=(count, FEATURES))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def planted(
    seed: int = 0, stripes: int = 82, others: int = 5, missed: int = 3, rest: int = 60
) -> tuple[Pairs, np.ndarray]:
    """Sevens with a stripe at the lower left, `others` that peak on anything anywhere, missed ones, and other classes.

    Covering the stripe loses 71 labels, covering another patch 2.
    """
    rng = np.random.default_rng(seed)
    count = stripes + others + missed + rest
    features = directions(rng, count)
    features[:stripes] = directions(rng, 1) + 0.05 * features[:stripes]
    classes = np.where(np.arange(count) < count - rest, SEVEN, rng.integers(0, 7, count))
    peak_y, peak_x = rng.random((2, count))
    peak_y[:stripes], peak_x[:stripes] = 0.92, 0.08
    logit = np.where((np.arange(count) >= stripes + others) & (classes == SEVEN), -1.0, 6.0)
    peak_covered, elsewhere_covered = np.full(count, 5.0), np.full(count, 5.0)
    peak_covered[:71], elsewhere_covered[:2] = -1.0, -1.5
    columns = {"peak_y": peak_y, "peak_x": peak_x, "logit": logit}
    pairs = pairs_of(features, classes, **columns, peak_covered=peak_covered, elsewhere_covered=elsewhere_covered)
    return pairs, np.ones(count, bool)


def test_a_planted_stripe_is_named_with_its_place_its_share_and_its_effect() -> None:
    (group,) = looked_at(*[planted()[0], SEVEN, planted()[1]])
    assert (group.place, group.count, group.found, group.concerned, group.drawn) == ("lower left", 82, 87, 87, 87)
    assert group.share == 82 / 87
    assert (group.y, group.x) == pytest.approx((0.92, 0.08))
    assert group.spread == pytest.approx(0, abs=FLOAT32)
    assert set(group.images) == {f"{row:05d}" for row in range(82)}
    # Of 82 differences 2 are 0.5 less than nothing, 11 are nothing, 69 are 6: the median is 6, and so is the interval.
    assert (group.effect, group.effect_low, group.effect_high) == (6, 6, 6)
    assert (group.covered, group.lost, group.lost_elsewhere) == (82, 71, 2)
    assert group.matters
    assert sentence(group, "seven") == (
        "seven: a patch at the lower left in 94 % of its found labels (82 of 87). Covering it loses 71 of 82, "
        "covering a patch elsewhere 2 of 82 (the margin falls by 6.00 more, median, 95 % interval 6.00 to 6.00)."
    )


def test_json_holds_every_field_and_the_sentence() -> None:
    pairs, concerned = planted()
    (group,) = looked_at(pairs, SEVEN, concerned)
    content = json.loads(json.dumps(group.to_json("seven"), allow_nan=False))
    assert content["sentence"] == sentence(group, "seven")
    assert set(content) == {*(field.name for field in dataclasses.fields(Group)), "sentence"}
    assert len(content["images"]) == len(content["peaks"]) == content["count"]
    assert content["peaks"][0] == [0.92, 0.08]


def test_neither_the_order_of_the_rows_nor_another_run_changes_anything() -> None:
    pairs, concerned = planted()
    first = looked_at(pairs, SEVEN, concerned)
    assert looked_at(pairs, SEVEN, concerned) == first
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(pairs))
        assert looked_at(pairs.where(order), SEVEN, concerned[order]) == first


def test_only_found_and_concerned_pairs_of_the_class_are_grouped() -> None:
    pairs, concerned = planted()
    concerned[:40] = False
    (group,) = looked_at(pairs, SEVEN, concerned)
    assert (group.count, group.found, group.concerned) == (42, 87, 47)
    assert group.share == 42 / 87
    assert set(group.images) == {f"{row:05d}" for row in range(40, 82)}
    assert looked_at(pairs, 9, concerned) == []


def test_pairs_without_features_or_peak_are_left_out_and_counted() -> None:
    pairs, concerned = planted()
    assert pairs.regions is not None
    pairs.regions.peak_features[:10] = np.nan
    pairs.regions.peak_y[10:12] = np.nan
    (group,) = looked_at(pairs, SEVEN, concerned)
    assert (group.count, group.drawn, group.peaking, group.concerned) == (70, 75, 75, 87)
    assert group.share == 70 / 87
    pairs.regions.peak_features[:] = np.nan
    assert looked_at(pairs, SEVEN, concerned) == []
    assert looked_at(dataclasses.replace(pairs, regions=None), SEVEN, concerned) == []


def test_where_only_some_peaks_were_measured_the_share_is_an_estimate() -> None:
    """Every map is highest outside the object: 41 of 45 measured peaks are stripes, 91 % of 87 found pairs."""
    pairs, concerned = planted()
    assert pairs.regions is not None
    pairs.regions.peak_height[:87] = 1.0
    pairs.regions.peak_features[41:83] = np.nan
    (group,) = looked_at(pairs, SEVEN, concerned)
    assert (group.count, group.drawn, group.peaking, group.found) == (41, 45, 87, 87)
    assert group.share == pytest.approx(41 / 45)
    assert "in about 91 % of its 87 found labels (41 of 45 drawn)." in sentence(group, "seven")
    pairs.regions.peak_height[:20] = 0.9  # these would not have been measured, but were
    assert looked_at(pairs, SEVEN, concerned) == [group]
    pairs.regions.peak_height[60:70] = 0.9  # these look at the object, too
    assert looked_at(pairs, SEVEN, concerned)[0].share == pytest.approx(41 / 45 * 77 / 87)
    pairs.regions.without_object[60:70] = 1.0  # but are found without it
    assert looked_at(pairs, SEVEN, concerned)[0].share == pytest.approx(41 / 45)


@pytest.mark.parametrize(("stripes", "others", "groups"), [(4, 0, 0), (5, 0, 1), (9, 81, 1), (5, 85, 0)])
def test_a_group_has_five_pairs_and_a_tenth_of_the_pairs(stripes: int, others: int, groups: int) -> None:
    pairs, concerned = planted(stripes=stripes, others=others)
    found = looked_at(pairs, SEVEN, concerned)
    assert len(found) == groups
    assert all({f"{row:05d}" for row in range(stripes)} <= set(group.images) for group in found)


@pytest.mark.parametrize("count", [5, 12, 50, 300])
def test_peaks_on_anything_make_no_group(count: int) -> None:
    groups = [looked_at(*_named(planted(seed, stripes=0, others=count))) for seed in range(10)]
    assert groups == [[]] * 10


def _named(world: tuple[Pairs, np.ndarray]) -> tuple[Pairs, int, np.ndarray]:
    return world[0], SEVEN, world[1]


@pytest.mark.parametrize("common", [0, 1, 4])
def test_groups_are_told_apart_whatever_all_features_have_in_common(common: float) -> None:
    """Three groups at varying places among noise; `common` is the weight of a vector that every feature contains."""
    rng = np.random.default_rng(1)
    count, sizes = 200, (40, 30, 20)
    features = directions(rng, count)
    member = np.full(count, -1)
    member[: sum(sizes)] = np.repeat(np.arange(3), sizes)
    features[: sum(sizes)] = (directions(rng, 3)[member[: sum(sizes)]] + 0.5 * features[: sum(sizes)]) / 1.1
    classes = np.where(np.arange(count) < 120, SEVEN, 1)
    places = rng.random((2, count))
    pairs = pairs_of(features + common * directions(rng, 1), classes, peak_y=places[0], peak_x=places[1])
    groups = looked_at(pairs, SEVEN, np.ones(count, bool))
    assert len(groups) == 3
    for label, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        own = np.isin(pairs.image_id[member == label], group.images)
        assert own.mean() >= 0.9
        assert group.count <= size + 4
        assert group.place == "varying places"
        assert group.effect is None
    assert sentence(groups[0], "seven").endswith("What covering them does was not measured.")


def activations(rng: np.random.Generator, count: int, channels: int = 256) -> np.ndarray:
    """What a layer holds after ReLU: seven of ten channels are 0."""
    return np.abs(rng.normal(size=(count, channels))) * (rng.random((count, channels)) < 0.3)


def test_in_worlds_of_activations_the_groups_are_those_planted() -> None:
    """Projected activations of 40 or 150 peaks, of which some share 0.5 or 0.8 of what they hold, and all have a part
    of weight `common` in common: the figures at ALIKE in the module."""
    from sklearn.metrics import adjusted_rand_score

    scores = []
    worlds = itertools.product((0, 1, 4), (40, 150), ((1, 0.95), (1, 0.5), (3, 0.6)), (0.5, 0.8), range(2))
    for common, count, (groups, share), weight, seed in worlds:
        rng = np.random.default_rng(seed)
        projection, part = rng.normal(size=(256, FEATURES)), common * activations(rng, 1)
        planted_group = np.where(np.arange(count) < round(count * share), np.arange(count) % groups, -1)
        own = activations(rng, count) + part
        members = planted_group >= 0
        own[members] = (1 - weight) * own[members] + weight * activations(rng, groups)[planted_group[members]]
        other = activations(rng, 300) + part
        found = np.full(count, -1)
        for label, rows in enumerate(_alike(own @ projection, other @ projection, math.ceil(0.1 * count))):
            found[rows] = label
        scores.append(adjusted_rand_score(planted_group, found))
    assert np.mean(scores) >= 0.93
    assert min(scores) >= 0.5


def test_of_peaks_that_are_all_alike_those_of_one_place_are_a_group() -> None:
    """Near the output a layer may hold the same at all that speaks for a class."""
    rng = np.random.default_rng(2)
    features = np.where(np.arange(160)[:, None] < 80, directions(rng, 1), directions(rng, 160))
    classes = np.where(np.arange(160) < 80, SEVEN, 1)
    peak_y, peak_x = rng.random((2, 160))
    peak_y[:40], peak_x[:40] = 0.05, 0.5
    pairs = pairs_of(features, classes, peak_y=peak_y, peak_x=peak_x)
    first, second = looked_at(pairs, SEVEN, np.ones(160, bool))
    assert (first.place, second.place) == ("top", "varying places")
    assert {f"{row:05d}" for row in range(40)} <= set(first.images)
    assert first.count + second.count == 80
    assert first.count <= 44


def test_a_place_is_named_by_chance_in_at_most_one_of_twenty_groups() -> None:
    rng = np.random.default_rng(3)
    for count in (5, 8, 20):
        named = 0
        for _ in range(200):
            features = np.where(np.arange(2 * count)[:, None] < count, directions(rng, 1), directions(rng, 2 * count))
            y, x = rng.random((2, 2 * count))
            pairs = pairs_of(features, np.where(np.arange(2 * count) < count, SEVEN, 1), peak_y=y, peak_x=x)
            named += looked_at(pairs, SEVEN, np.ones(2 * count, bool))[0].place != "varying places"
        assert named <= 0.05 * 200 + 2 * np.sqrt(200 * 0.05 * 0.95), count


def test_places_are_thirds_of_the_image() -> None:
    middles = (1 / 6, 1 / 2, 5 / 6)
    assert [[place_of(y, x) for x in middles] for y in middles] == [
        ["upper left", "top", "upper right"],
        ["left", "centre", "right"],
        ["lower left", "bottom", "lower right"],
    ]
    assert (place_of(0, 0), place_of(1, 1)) == ("upper left", "lower right")


def test_the_interval_of_the_effect_is_that_of_order_statistics() -> None:
    """Of 10 values the 2nd and the 9th: 1 - 2 (1 + 10) / 1024 = 0.979; the 3rd and the 8th would have 0.891."""
    pairs, concerned = planted(stripes=10, others=0)
    assert pairs.regions is not None
    pairs.regions.peak_covered[:10], pairs.regions.elsewhere_covered[:10] = 0.0, np.arange(10) - 1.0
    (group,) = looked_at(pairs, SEVEN, concerned)
    assert (group.effect, group.effect_low, group.effect_high) == (3.5, 0, 7)
    assert not group.matters
    assert sentence(group, "seven").endswith(
        "Covering it is not shown to matter more than covering a patch elsewhere (difference of the fall of the margin "
        "3.50, median, 95 % interval 0.00 to 7.00, 10 pairs)."
    )
    pairs.regions.peak_covered[5:10] = np.nan
    (group,) = looked_at(pairs, SEVEN, concerned)
    assert (group.covered, group.effect_low, group.matters) == (5, None, False)
    assert sentence(group, "seven").endswith("was measured on 5 pairs, too few to tell what it does.")


def test_without_an_effect_covering_is_said_to_matter_in_at_most_one_of_twenty_groups() -> None:
    rng = np.random.default_rng(4)
    pairs, concerned = planted(stripes=30, others=0)
    assert pairs.regions is not None
    false = 0
    for _ in range(300):
        pairs.regions.peak_covered[:30], pairs.regions.elsewhere_covered[:30] = rng.standard_t(2, (2, 30))
        false += looked_at(pairs, SEVEN, concerned)[0].matters
    assert false <= 0.025 * 300 + 2 * np.sqrt(300 * 0.025 * 0.975)


def test_of_many_pairs_five_hundred_are_drawn_and_the_share_is_an_estimate() -> None:
    pairs, concerned = planted(stripes=900, others=300, missed=0)
    (group,) = looked_at(pairs, SEVEN, concerned)
    assert (group.drawn, group.peaking, group.found) == (MOST_PAIRS, 1200, 1200)
    assert group.share == group.count / 500
    assert abs(group.share - 0.75) < 0.06  # three standard errors
    text = f"about {100 * group.share:.0f} % of its 1200 found labels ({group.count} of 500 drawn)."
    assert text in sentence(group, "seven")
    order = np.random.default_rng(0).permutation(len(pairs))
    assert looked_at(pairs.where(order), SEVEN, concerned[order]) == [group]


def test_groups_whose_covering_matters_come_first() -> None:
    rng = np.random.default_rng(5)
    features = np.concatenate([np.repeat(directions(rng, 2), (30, 12), axis=0), directions(rng, 40)])
    classes = np.where(np.arange(82) < 42, SEVEN, 1)
    peak_covered = np.where((np.arange(82) >= 30) & (classes == SEVEN), -1.0, 1.0)
    y, x = rng.random((2, 82))
    pairs = pairs_of(
        features, classes, peak_y=y, peak_x=x, peak_covered=peak_covered, elsewhere_covered=np.full(82, 1.0)
    )
    groups = looked_at(pairs, SEVEN, np.ones(82, bool))
    assert [(group.count, group.matters) for group in groups] == [(12, True), (30, False)]
    assert groups[0].share + groups[1].share == 1


def test_with_few_peaks_of_other_classes_a_fixed_cosine_decides() -> None:
    pairs, concerned = planted(rest=0)
    (group,) = looked_at(pairs, SEVEN, concerned)
    assert group.count == 82


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 20, 87, 400])
def test_the_interval_of_a_median_leaves_out_as_many_values_as_a_binomial_says(count: int) -> None:
    low, high = _median_interval(np.arange(float(count)))
    out = int(binom.ppf(0.025, count, 0.5)) if count else 0
    assert (low, high) == ((out - 1, count - out) if out else (None, None))
