"""Comparison of models: paired over images, corrected for many, honest about seeds; against plain loops."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from planted import planted
from simulated import simulated
from torchvice.errors import ViceError
from torchvice.measures import compare, true_pairs
from torchvice.measures.compare import COMPARED_OF_SEEDS, compare_groups
from torchvice.measures.inference import Replicates
from torchvice.measures.protocols import measure as measures_of
from torchvice.measures.statements import sentences_of
from torchvice.metrics.weighted_scores import MeanAveragePrecision
from torchvice.samples import Samples
from variants import slow_but
from ways_out import tried


def made(seed: int, dependence: float, images: int = 250) -> Samples:
    return simulated(images, seed=seed, dependence=dependence)


STRONG, WEAK = made(0, 1.2), made(1, 0.1)
FOUND = compare({"strong": STRONG, "weak": WEAK, "twin": STRONG}, replicates=300)


def row_of(first: str, second: str, measure: str = "vice") -> dict:
    return next(r for r in FOUND.differences if (r["first"], r["second"], r["measure"]) == (first, second, measure))


def test_each_model_has_the_vice_of_its_pairs() -> None:
    for row, table in zip(FOUND.models, (STRONG, WEAK, STRONG), strict=True):
        pairs = true_pairs(table)
        assert row["vice"] == pytest.approx(stats.spearmanr(pairs.logit, pairs.quality).statistic)
        assert row["vice_low"] < row["vice"] < row["vice_high"]
        assert row["quality"] == pytest.approx(pairs.quality.mean())


def test_a_large_difference_is_established_and_none_is_not() -> None:
    apart, same = row_of("strong", "weak"), row_of("strong", "twin")
    assert apart["low"] > 0
    assert apart["p_holm"] < 0.05
    # The same model twice: whatever is drawn, the difference is 0.
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    assert same["p_holm"] == 1
    assert any(s.startswith("Established") and "strong is more consistent than weak" in s for s in FOUND.sentences)
    assert any(s.startswith("Not established") and "strong against twin" in s for s in FOUND.sentences)
    assert any("not about training them again" in s for s in FOUND.sentences)


def test_a_table_that_is_not_finished_is_named() -> None:
    dataset = {**WEAK.manifest["dataset"], "images": 400}
    half = replace(WEAK, manifest={**WEAK.manifest, "finished": False, "dataset": dataset})
    said = compare({"strong": STRONG, "half": half}, replicates=100).sentences
    assert said[0] == "The assessment of half is not finished: it has 250 of 400 images."
    assert not any("is not finished" in sentence for sentence in FOUND.sentences)


def test_holm_is_over_the_pairs_of_models_for_each_measure() -> None:
    from statsmodels.stats.multitest import multipletests

    for measure in ("vice", "loss"):
        rows = [row for row in FOUND.differences if row["measure"] == measure]
        expected = multipletests([row["p"] for row in rows], method="holm")[1]
        assert [row["p_holm"] for row in rows] == pytest.approx(expected.tolist())


def test_the_interval_of_a_difference_is_paired() -> None:
    # Two models of the same losses whose maps differ a little: the difference is far surer than either value.
    other = replace(STRONG.regions, intersection=np.maximum(STRONG.regions.intersection - 20, 0))
    near = Samples(STRONG.manifest, STRONG.images, replace(other, predicted=other.intersection), STRONG.maps)
    found = compare({"a": STRONG, "b": near}, replicates=300)
    row = found.differences[0]
    width = found.models[0]["vice_high"] - found.models[0]["vice_low"]
    assert row["high"] - row["low"] < width / 3


def test_only_common_images_count() -> None:
    few = STRONG.images.where(np.arange(len(STRONG.images)) < 100)
    regions = STRONG.regions.where(np.isin(STRONG.regions.image_id.astype(str), few.image_id.astype(str)))
    found = compare({"all": STRONG, "some": Samples(STRONG.manifest, few, regions, STRONG.maps)}, replicates=100)
    assert found.images == 100
    assert list(found.excluded.values()) == [150]
    assert found.differences[0]["difference"] == 0


def test_matched_models_have_equally_likely_pairs() -> None:
    row = FOUND.matched[0]
    assert row["vice_first"] > row["vice_second"]
    assert row["low"] > 0
    assert 0 <= row["without_partner"] < 0.2
    twin = FOUND.matched[1]
    assert twin["difference"] == pytest.approx(0)


def test_seeds_below_three_support_no_claim_and_three_do() -> None:
    models = {
        f"{name}{i}": made(10 * i + k, d, 120) for k, (name, d) in enumerate((("a", 1.5), ("b", 0.1))) for i in range(3)
    }
    groups = {"A": ["a0", "a1", "a2"], "B": ["b0", "b1", "b2"]}
    found = compare(models, groups=groups, replicates=100)
    row = found.seeds[0]
    assert row["p"] < 0.05
    assert row["low"] > 0
    assert any(s.startswith("Established over seeds: A - B") for s in found.sentences)
    few = compare(models, groups={"A": ["a0", "a1"], "B": ["b0", "b1"]}, replicates=100)
    assert few.seeds[0]["p"] is None
    assert any(s.startswith("No claim about A against B") for s in few.sentences)


def test_groups_are_held_against_one_or_every_two_are_compared_ece_ml_too() -> None:
    models = {f"{name}{i}": made(10 * i + k, 0.5, 80) for k, name in enumerate("abc") for i in range(3)}
    groups = {name: [f"{name}{i}" for i in range(3)] for name in "abc"}
    every = compare_groups(models, groups, replicates=100)
    assert {(row["first"], row["second"]) for row in every} == {("a", "b"), ("a", "c"), ("b", "c")}
    held = compare_groups(models, groups, against="b", replicates=100)
    assert {(row["first"], row["second"]) for row in held} == {("a", "b"), ("c", "b")}
    assert tuple(dict.fromkeys(row["measure"] for row in held)) == COMPARED_OF_SEEDS
    row = next(row for row in held if row["measure"] == "ece_ml")
    ece = {m["name"]: m["ece_ml"] for m in compare(models, replicates=100).models}
    means = {name: np.mean([ece[seed] for seed in seeds]) for name, seeds in groups.items()}
    assert row["difference"] == pytest.approx(means["a"] - means["b"])
    assert row["low"] < row["difference"] < row["high"]
    with pytest.raises(ViceError, match="must be one of the groups"):
        compare_groups(models, groups, against="d", replicates=100)


def test_maps_that_were_made_otherwise_are_told_and_signs_agree() -> None:
    manifest = {**WEAK.manifest, "explanations": {"strict:cam": {**WEAK.manifest["explanations"]["strict:cam"]}}}
    manifest["explanations"]["strict:cam"]["method"] = "rollout"
    other = Samples(manifest, WEAK.images, WEAK.regions, WEAK.maps)
    said = compare({"weak": other, "strong": STRONG}, replicates=200).sentences
    assert said[0].startswith("Not the same question: the maps differ in method (weak: rollout, strong: cam)")
    manifest["explanations"]["strict:cam"] |= {"method": "cam", "aug_smooth": True}
    strong = {**STRONG.manifest, "explanations": {"strict:cam": {**STRONG.manifest["explanations"]["strict:cam"]}}}
    strong["explanations"]["strict:cam"]["aug_smooth"] = False
    tables = {"weak": other, "strong": Samples(strong, STRONG.images, STRONG.regions, STRONG.maps)}
    averaged = compare(tables, replicates=100).sentences[0]
    assert averaged.startswith("Not the same question: the maps differ in aug_smooth (weak: True, strong: False).")
    manifest["explanations"]["strict:cam"] |= {"aug_smooth": False, "precision": "bfloat16"}
    low = compare(tables, replicates=100).sentences[0]
    assert "the maps differ in precision (weak: bfloat16, strong: that of the weights)." in low
    assert "strong is more consistent than weak" in said[1]
    assert "difference +" in said[1]
    assert "interval +" in said[1]
    assert not any("Not the same question" in s for s in FOUND.sentences)


def test_too_few_replicates_for_many_models_are_told() -> None:
    models = {f"m{i}": made(i, 0.3, 40) for i in range(4)}
    found = compare(models, replicates=100)
    assert any("--replicates 1200" in s and "below 0.12" in s for s in found.sentences)
    assert not any("replicates" in s for s in FOUND.sentences)


def test_explanations_that_all_models_have_are_compared_in_their_order() -> None:
    others = {"strict:gradcam": {"role": "method", "dependence": 0.0}}
    models = {f"m{i}": simulated(150, seed=i, dependence=1.5 * i, others=others) for i in range(2)}
    found = compare(models, replicates=100).agreement
    assert found["explanations"] == ["strict:cam", "strict:gradcam"]
    assert found["vice"]["m1"][0] > found["vice"]["m0"][0]
    assert isinstance(found["same_order"], bool)
    assert FOUND.agreement == {}


def test_json_has_no_nan() -> None:
    json.dumps(FOUND.to_json(), allow_nan=False)
    flat = replace(WEAK.regions, intersection=np.zeros_like(WEAK.regions.intersection))
    missed = Samples(WEAK.manifest, WEAK.images, flat, WEAK.maps)
    found = compare({"strong": STRONG, "missed": missed}, replicates=100)
    json.dumps(found.to_json(), allow_nan=False)
    assert found.models[1]["vice"] is None
    assert any("cannot be compared" in s for s in found.sentences)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ViceError, match="two models or more, but 1 came"):
        compare({"one": STRONG})
    with pytest.raises(ViceError, match="at least 100"):
        compare({"a": STRONG, "b": WEAK}, replicates=10)
    other = simulated(50, classes=3)
    with pytest.raises(ViceError, match="a and b differ"):
        compare({"a": STRONG, "b": other})
    with pytest.raises(ViceError, match="must name models"):
        compare({"a": STRONG, "b": WEAK}, groups={"A": ["x"]})
    moved = replace(WEAK.images, image_id=np.array([f"y{i}" for i in range(250)], dtype=object))
    with pytest.raises(ViceError, match="none in common"):
        compare({"a": STRONG, "b": Samples(WEAK.manifest, moved, WEAK.regions, WEAK.maps)})


COMPARE = sys.modules["torchvice.measures.compare"]  # `torchvice.measures.compare` is the function


def false_claims(groups: int, trials: int) -> float:
    """How often groups without a difference, of three seeds each, are called different in a sentence."""
    rng = np.random.default_rng(groups)
    false = 0
    for _ in range(trials):
        models = {
            f"{group}.{seed}": SimpleNamespace(
                values={"vice": rng.normal(0.4, 0.02)}, replicates={"vice": Replicates(np.zeros(9))}
            )
            for group in range(groups)
            for seed in range(3)
        }
        members = {str(group): [f"{group}.{seed}" for seed in range(3)] for group in range(groups)}
        rows = COMPARE._seeds(models, members, COMPARE.group_pairs(members))
        false += any(s.startswith("Established") for s in sentences_of(replace(FOUND, seeds=rows), {}, 300))
    return false / trials


@pytest.mark.parametrize("groups", slow_but([2, 4, 9], 4))
def test_groups_without_a_difference_are_rarely_called_different(groups: int) -> None:
    assert false_claims(groups, 400) < 0.09


def test_sentences_name_the_quality_that_was_chosen() -> None:
    found = compare({"strong": STRONG, "weak": WEAK}, quality="soft_iou", replicates=300)
    assert found.sentences[0].startswith("VICE with soft IoU is compared: soft_iou is one of 11 qualities")
    assert any(s.startswith("Established") and "(VICE with soft IoU" in s for s in found.sentences)
    assert not any("qualities" in s for s in FOUND.sentences)


def test_a_p_that_no_replicate_makes_lower_is_an_upper_bound() -> None:
    apart = row_of("strong", "weak")
    assert apart["p"] == pytest.approx(2 / 301)
    assert apart["p_at_floor"]
    assert not row_of("strong", "twin")["p_at_floor"]
    assert any("p <= 0.02" in s for s in FOUND.sentences)


def test_linear_replicates_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("linear replicates" in sentence for sentence in FOUND.sentences)
    monkeypatch.setattr(MeanAveragePrecision, "most_work", 0)
    found = compare({"strong": STRONG, "weak": WEAK}, replicates=300)
    assert [s for s in found.sentences if "linear" in s] == [
        "Intervals and p of mAP are made of linear replicates, as there are so many images."
    ]
    alone = measures_of(STRONG, replicates=300)
    assert alone.intervals["strict.mean_average_precision"]["method"] == "percentile, linear replicates"
    assert alone.intervals["strict.vice"]["method"] == "percentile"


def test_a_model_in_which_no_class_could_be_tested_is_not_said_to_be_clean() -> None:
    clean = planted(200, seed=1)
    images = dataclasses.replace(clean.images, logits=-np.abs(clean.images.logits))
    silent = type(clean)(clean.manifest, images, clean.regions, clean.maps)  # finds no label
    both = compare({"clean": clean, "silent": silent}, replicates=100)
    assert both.testable["clean"] > 0
    assert both.testable["silent"] == 0
    assert both.sentences[-2:] == [
        "No class stands out in clean.",
        "No class could be tested in silent: every class has too few found labels.",
    ]
    neither = compare({"one": silent, "other": silent}, replicates=100)
    assert neither.sentences[-1].startswith("No class could be tested in one, other:")
    assert not [sentence for sentence in neither.sentences if "stands out" in sentence]


def test_models_of_other_classes_are_told_apart_by_name() -> None:
    one, other = simulated(60, classes=3), simulated(60, classes=2)
    with pytest.raises(ViceError, match=r"only a has \['class2'\]\.\s+Assess both for the same classes"):
        compare({"a": one, "b": other}, replicates=100)


def test_one_group_has_no_other_to_be_compared_with() -> None:
    models = {f"{name}{i}": made(10 * i + k, 0.5, 80) for k, name in enumerate("ab") for i in range(3)}
    groups = {name: [f"{name}{i}" for i in range(3)] for name in "ab"}
    found = tried(
        lambda: compare(models, groups={"a": groups["a"]}, replicates=100),
        "Give another one too: --group NAME=RUN,RUN,RUN",
        lambda: compare(models, groups=groups, replicates=100),
    )
    assert len(found.seeds) == 1
