"""The section `without`: every share counted by a loop over the rows of a table."""

from __future__ import annotations

import dataclasses
import math
import statistics
from typing import Any

import numpy as np
import pytest

from planted import planted
from simulated import HEADLINE, simulated
from tables import scenes, table_of
from torchvice.measures import compare, measure, true_pairs
from torchvice.measures.catalogue import paths
from torchvice.metrics.interventions import relative_foreground_sensitivity
from torchvice.samples import Samples

TABLE = planted(120, shortcut=2)
FOUND = measure(TABLE, replicates=200)


def rows_of(samples: Samples) -> list[dict[str, Any]]:
    """The true labels with pixels, one by one: whether each is found, its margin, and the columns of interventions."""
    images = samples.images
    row_of = {name: row for row, name in enumerate(images.image_id.tolist())}
    rows = []
    for at in range(len(samples.regions)):
        region = {name: column[at] for name, column in vars(samples.regions).items()}
        c, image = region["label"] - 1, row_of[region["image_id"]]
        if region["explanation"] != HEADLINE or c < 0 or not images.targets[image, c] or not region["mask_pixels"]:
            continue
        logits = images.logits[image].astype(float)
        margin = logits[c]
        if samples.exclusive:
            margin -= max(value for place, value in enumerate(logits) if place != c)
        rows.append(region | {"margin": margin, "class": c})
    return rows


def share(rows: list[dict[str, Any]], column: str) -> float:
    known = [row for row in rows if row["margin"] > 0 and not math.isnan(row[column])]
    return sum(row[column] > 0 for row in known) / len(known)


def test_every_number_is_that_of_a_loop() -> None:
    rows = rows_of(TABLE)
    assert FOUND.without["object_found"] == pytest.approx(share(rows, "without_object"))
    assert FOUND.without["object_lost"] == pytest.approx(1 - share(rows, "without_object"))
    assert FOUND.without["background_found"] == pytest.approx(share(rows, "without_background"))
    assert FOUND.without["background_lost"] == pytest.approx(1 - share(rows, "without_background"))
    assert FOUND.without["hole_lost"] == pytest.approx(1 - share(rows, "with_hole"))
    for name, column in (("object", "without_object"), ("background", "without_background"), ("hole", "with_hole")):
        falls = [r["margin"] - r[column] for r in rows if r["margin"] > 0 and not math.isnan(r[column])]
        assert FOUND.without[f"{name}_fall"] == pytest.approx(statistics.median(falls))
    # Of all true labels, found or not.
    foreground = sum(row["without_object"] > 0 for row in rows) / len(rows)
    background = sum(row["without_background"] > 0 for row in rows) / len(rows)
    expected = relative_foreground_sensitivity(foreground, background)
    assert FOUND.without["foreground_sensitivity"] == pytest.approx(expected)
    assert "foreground_sensitivity_noise" not in FOUND.without
    for path in (path for path in paths("without") if path.partition(".")[2] in FOUND.without):
        limits = FOUND.intervals[path]
        assert limits["low"] <= FOUND.value(path) <= limits["high"], path


def test_fillings_are_compared_on_the_same_pairs() -> None:
    rows = [row for row in rows_of(TABLE) if not math.isnan(row["object_by_mean"] + row["object_by_noise"])]
    assert 0 < len(rows) < len(rows_of(TABLE)) / 2
    assert FOUND.without["object_found_blur"] == pytest.approx(share(rows, "without_object"))
    assert FOUND.without["object_found_mean"] == pytest.approx(share(rows, "object_by_mean"))
    assert FOUND.without["object_found_noise"] == pytest.approx(share(rows, "object_by_noise"))
    assert "object_found_background" not in FOUND.without  # not measured


def test_classes_have_their_own_shares() -> None:
    for c, row in enumerate(FOUND.classes):
        own = [r for r in rows_of(TABLE) if r["class"] == c]
        assert row.found == sum(r["margin"] > 0 for r in own)
        for column in ("without_object", "without_background"):
            value = getattr(row, column)
            assert value == pytest.approx(share(own, column))
            assert getattr(row, f"{column}_low") <= value <= getattr(row, f"{column}_high")
    assert FOUND.classes[2].without_object > 0.8


def test_noise_as_published() -> None:
    samples = planted(60)
    count = len(samples.regions)
    rng = np.random.default_rng(3)
    columns = {"noisy_object": rng.normal(-0.5, 1, count), "noisy_background": rng.normal(0.5, 1, count)}
    samples = dataclasses.replace(samples, regions=dataclasses.replace(samples.regions, **columns))
    rows = rows_of(samples)
    foreground, background = (sum(row[name] > 0 for row in rows) / len(rows) for name in columns)
    value = measure(samples, replicates=0).without["foreground_sensitivity_noise"]
    assert value == pytest.approx(relative_foreground_sensitivity(foreground, background))
    assert value > 0


def test_the_margin_of_exclusive_classes_is_the_lead_over_the_highest_other_logit() -> None:
    samples = planted(80, classes=4)
    targets = np.zeros_like(samples.images.targets)
    targets[np.arange(80), samples.images.targets.argmax(axis=1)] = 1
    images = dataclasses.replace(samples.images, targets=targets)
    exclusive = Samples({**samples.manifest, "targets": "exclusive"}, images, samples.regions, samples.maps)
    rows, pairs = rows_of(exclusive), true_pairs(exclusive)
    np.testing.assert_allclose(pairs.margin, [row["margin"] for row in rows])
    np.testing.assert_array_equal(pairs.predicted, pairs.margin > 0)
    found = measure(exclusive, replicates=0)
    assert found.without["object_found"] == pytest.approx(share(rows, "without_object"))
    falls = [r["margin"] - r["without_object"] for r in rows if r["margin"] > 0]
    assert found.without["object_fall"] == pytest.approx(statistics.median(falls))


def test_a_table_without_interventions_has_none_of_these_numbers() -> None:
    found = measure(simulated(60), replicates=100)
    assert found.without == {}
    assert all(row.without_object is None for row in found.classes)
    assert [row.found for row in found.classes] == [
        sum(r["margin"] > 0 and r["class"] == c for r in rows_of(simulated(60))) for c in range(4)
    ]
    assert measure(table_of(scenes(12), ("paper",)), replicates=0).without == {}


def test_where_nothing_is_found_the_reason_is_said() -> None:
    samples = planted(40)
    images = dataclasses.replace(samples.images, logits=samples.images.logits - 50)
    found = measure(dataclasses.replace(samples, images=images), replicates=100)
    assert math.isnan(found.without["object_found"])
    assert found.undefined["without.object_found"] == "The model finds no true label that was measured."
    assert "without.object_found" not in found.intervals


def test_without_replicates_there_are_no_intervals() -> None:
    bare = measure(TABLE, replicates=0)
    assert bare.without == pytest.approx(FOUND.without)
    assert not [path for path in bare.intervals if path.startswith("without.")]
    assert bare.classes[0].without_object_low is None


def test_boxes_are_said() -> None:
    samples = planted(40)
    boxes = dataclasses.replace(
        samples, manifest={**samples.manifest, "dataset": {**samples.manifest["dataset"], "regions": "boxes"}}
    )
    found = measure(boxes, replicates=0)
    assert "unions of boxes" in found.notes["without"]
    assert any("unions of boxes" in caveat for caveat in found.verdict.caveats)
    assert "without" not in measure(samples, replicates=0).notes


def test_a_comparison_gives_a_share_the_interval_of_the_measures() -> None:
    """Wilson's: of few labels the percentile bootstrap of a share covers half of what it says."""
    (row, _) = compare({"a": TABLE, "b": TABLE}, replicates=100).models
    interval = FOUND.intervals["without.object_found"]
    assert row["without_object"] == pytest.approx(FOUND.without["object_found"])
    assert (row["without_object_low"], row["without_object_high"]) == (interval["low"], interval["high"])
