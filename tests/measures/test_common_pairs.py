"""Explanations that lack pairs: VICE and chance are compared over the pairs that both have, counted by plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from reference import held_out
from simulated import HEADLINE, simulated
from torchvice.measures import measure, true_pairs
from torchvice.measures.json_schema import json_schema
from torchvice.samples import Regions, Samples

RARE = 2  # classes from here on have no row of the control


def lacking(dependence: float = 0.3, twin: bool = False, role: str = "control") -> Samples:
    """A table whose control has no rows of rare classes, whose own pairs are unsure and badly covered."""
    table = simulated(90, 4, 5, 0.2, others={"strict:shuffled": {"role": role, "dependence": dependence}})
    regions, images = table.regions, table.images
    rare = regions.label > RARE
    own = regions.explanation == HEADLINE
    badly = np.where((rare & own)[:, None], regions.intersection // 4, regions.intersection)
    logits = images.logits.copy()
    logits[:, RARE:] -= 4 * images.targets[:, RARE:]
    columns = {**regions.columns(), "intersection": badly}
    if twin:
        common = Regions(**columns).where(own & ~rare)
        other = Regions(**{**common.columns(), "explanation": np.full(len(common), "strict:shuffled", object)})
        joined = Regions.join([Regions(**columns).where(own), other])
    else:
        joined = Regions(**columns).where(own | ~rare)
    changed = type(images)(**{**images.columns(), "logits": logits})
    return Samples(table.manifest, changed, joined, table.maps)


def test_a_control_that_is_the_headline_where_it_has_rows_differs_by_nothing() -> None:
    table = lacking(twin=True)
    found = measure(table, replicates=100)
    row = found.controls["shuffled"]
    assert found.strict["vice"] - row.vice > 0.2  # of other pairs
    assert (row.difference, row.difference_low, row.difference_high) == (0, 0, 0)
    assert (row.difference_at_headline, row.difference_at_headline_high) == (0, 0)
    assert row.beaten is False
    pairs = true_pairs(table)
    rare = int((pairs.class_index >= RARE).sum())
    assert row.pairs == len(pairs) - rare
    assert found.notes["controls.shuffled"] == (
        f"The difference of VICE is over the {row.pairs} pairs that have a quality in both explanations; {rare} others "
        "are left out."
    )


@pytest.mark.parametrize(("role", "section"), [("control", "controls"), ("method", "methods")])
def test_both_are_measured_anew_over_the_common_pairs(role: str, section: str) -> None:
    table = lacking(role=role)
    row = getattr(measure(table, replicates=100), section)["shuffled"]
    own, other = true_pairs(table), true_pairs(table, "strict:shuffled")
    vices = []
    for pairs in (own.where(own.class_index < RARE), other):
        at = held_out(pairs.image_id.tolist(), pairs.iou.tolist())
        vices.append(stats.spearmanr(pairs.logit, pairs.iou[np.arange(len(pairs)), at]).statistic)
    assert row.difference == pytest.approx(vices[0] - vices[1])
    assert row.vice == pytest.approx(vices[1])
    assert row.difference_low < row.difference < row.difference_high


def test_a_quality_that_one_of_the_two_lacks_leaves_the_pair_out() -> None:
    table = simulated(90, 4, others={"strict:random": {"role": "control", "dependence": 0.5}})
    regions = table.regions
    number = np.arange(len(regions))
    mine = regions.explanation == HEADLINE
    # Precision: the predicted pixels are the object's and further ones; nothing is predicted in some pairs of each.
    further = np.random.default_rng(0).integers(1, 2000, len(regions))[:, None]
    nothing = (np.where(mine, number % 7 == 0, number % 5 == 0))[:, None]
    columns = {
        "intersection": np.where(nothing, 0, regions.intersection),
        "predicted": np.where(nothing, 0, regions.predicted + further),
    }
    table = Samples(table.manifest, table.images, Regions(**{**regions.columns(), **columns}), table.maps)
    row = measure(table, quality="precision", replicates=100).controls["random"]
    own, other = true_pairs(table), true_pairs(table, "strict:random")
    rows = []
    for at in range(len(own)):
        values = [
            (pairs.regions.intersection[at, pairs.at[at]], pairs.regions.predicted[at, pairs.at[at]])
            for pairs in (own, other)
        ]
        if all(predicted for _, predicted in values):
            rows.append((own.logit[at], *(shared / predicted for shared, predicted in values)))
    logit, first, second = np.array(rows).T
    expected = stats.spearmanr(logit, first).statistic - stats.spearmanr(logit, second).statistic
    assert 0 < len(rows) < row.pairs < len(own)
    assert row.difference == pytest.approx(expected)
    assert row.difference_low < expected < row.difference_high


def test_ordinary_controls_have_no_note_of_left_out_pairs() -> None:
    found = measure(simulated(40, others={"strict:shuffled": {"role": "control"}}), replicates=100)
    assert not [path for path in found.notes if path.startswith("controls.")]
    assert found.controls["shuffled"].difference == found.strict["vice"] - found.controls["shuffled"].vice
    assert found.verdict.on_object["chance_pairs"] == found.verdict.on_object["pairs"]
    assert found.verdict.on_object["share_of_chance_pairs"] == found.verdict.on_object["share"]


def test_too_few_common_pairs_leave_the_comparison_undefined() -> None:
    table = lacking()
    regions = table.regions
    control = np.flatnonzero(regions.explanation == "strict:shuffled")
    kept = regions.where(np.r_[np.flatnonzero(regions.explanation == HEADLINE), control[:2]])
    found = measure(Samples(table.manifest, table.images, kept, table.maps), replicates=100)
    row = found.controls["shuffled"]
    assert (row.vice, row.difference, row.beaten) == (None, None, None)
    assert "Whether VICE is higher than the control `shuffled` is undefined." in found.notes["controls"]


def test_chance_is_compared_over_the_pairs_whose_class_another_image_shows() -> None:
    table = lacking()
    logits = table.images.logits + 8 * table.images.targets  # every label is found
    images = type(table.images)(**{**table.images.columns(), "logits": logits})
    table = Samples(table.manifest, images, table.regions, table.maps)
    found = measure(table, replicates=100)
    pairs, other = true_pairs(table), true_pairs(table, "strict:shuffled")
    elsewhere = {(other.image_id[at], other.class_index[at]): other.iou[at] for at in range(len(other))}
    on, by_chance = [], []
    for at in range(len(pairs)):
        iou = elsewhere.get((pairs.image_id[at], pairs.class_index[at]))
        if iou is not None:
            on.append(pairs.quality[at] >= 0.3)
            by_chance.append(iou[pairs.at[at]] >= 0.3)
    part = found.verdict.on_object
    assert 0 < len(on) < part["pairs"] == len(pairs)
    assert part["chance_pairs"] == len(on)
    assert part["chance"] == pytest.approx(np.mean(by_chance))
    assert part["share_of_chance_pairs"] == pytest.approx(np.mean(on))
    assert part["share_of_chance_pairs"] > part["share"] + 0.1
    (sentence,) = [one for one in found.verdict.sentences if one.startswith("The map is on the object")]
    assert (
        f"of the {len(on)} whose class another image shows, for {round(100 * np.mean(on))} %, and by chance, on the "
        f"objects of other images of the class, for {round(100 * np.mean(by_chance))} %."
    ) in sentence
    assert set(part) <= set(json_schema()["properties"]["verdict"]["properties"]["on_object"]["properties"])
    json.dumps(found.to_json(), allow_nan=False)


def test_without_any_other_image_of_the_classes_chance_is_unknown() -> None:
    table = lacking()
    regions = table.regions
    mine = regions.where(regions.explanation == HEADLINE)
    verdict = measure(Samples(table.manifest, table.images, mine, table.maps), replicates=0).verdict
    assert (verdict.on_object["chance"], verdict.on_object["chance_pairs"]) == (None, 0)
    assert "what chance gives is unknown, as no other image shows their classes." in " ".join(verdict.sentences)
