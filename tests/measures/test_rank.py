"""Ranking: the numbers of `vice measure`, one joint bootstrap, and sentences that say what is established."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from simulated import simulated
from tables import Scene, scenes, table_of
from torchvice.commands.rank import rank
from torchvice.errors import ViceError
from torchvice.measures import measure, true_pairs
from torchvice.measures.protocols import paper_ji
from torchvice.measures.rank import BY, _limits, linear_measures
from torchvice.measures.reduced import read_headline, reduced, replicates_of, top_share
from torchvice.metrics.rank_sets import rank_sets
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.weighted import HeldOutSpearman
from torchvice.metrics.weighted_scores import MeanAveragePrecision
from torchvice.samples import Samples
from ways_out import tried


def noisy(samples: Samples, seed: int, noise: float = 1.0) -> Samples:
    """The same images and maps with other logits."""
    rng = np.random.default_rng(seed)
    logits = samples.images.logits + rng.normal(0, noise, samples.images.logits.shape)
    images = dataclasses.replace(samples.images, logits=logits.astype(np.float32))
    return Samples(samples.manifest, images, samples.regions, samples.maps)


def models(count: int = 9, images: int = 150, **manifest: object) -> dict[str, Samples]:
    return {f"m{i}": noisy(simulated(images, dependence=i / 4, **manifest), i) for i in range(count)}


MODELS = models()
FOUND = rank(MODELS, top=3, replicates=400, bootstrap="exact")


def defined(count: int) -> list[Scene]:
    """Scenes whose JI of `paper` is defined."""
    made = scenes(count, unmasked=0)
    paper = table_of(made).of_protocol("paper")
    ji = paper_ji(paper.samples, paper.images, paper.regions)
    known = set(paper.images.image_id[~np.isnan(ji)].tolist())
    return [scene for scene in made if scene.image_id in known]


def row_of(name: str, found: object = FOUND) -> Mapping:
    return next(row for row in found.models if row["name"] == name)


@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_every_number_is_that_of_measure(protocol: str) -> None:
    made = defined(80) if protocol == "paper" else scenes(60, unmasked=3)
    tables = {f"m{i}": noisy(table_of(made), i) for i in range(3)}
    found = rank(tables, protocol=protocol, replicates=200)
    for name, samples in tables.items():
        row, expected = row_of(name, found), measure(samples, replicates=0)
        numbers = expected.strict if protocol == "strict" else expected.paper
        for one in ("vice", "ji", "ml_accuracy", "ece_ml"):
            assert row[one] == pytest.approx(numbers[one], abs=1e-12, nan_ok=True), one
        ap = expected.strict if protocol == "strict" else expected.classification
        assert row["mean_average_precision"] == pytest.approx(ap["mean_average_precision"], abs=1e-12)
        assert row["loss"] == pytest.approx(float(samples.of_protocol(protocol).losses.mean()), abs=1e-12)
    assert found.pairs == (len(true_pairs(table_of(made))) if protocol == "strict" else 0)


def test_exact_replicates_are_those_of_measure() -> None:
    # The percentile interval of `vice measure` follows from the replicates, to the last bit of the means.
    samples = MODELS["m5"]
    drawn = replicates_of([reduced(samples, "strict")], BY, Resampling(150, 400, 7))[0]
    expected = measure(samples, replicates=400, seed=7).intervals
    for name in ("vice", "ji", "ml_accuracy", "mean_average_precision"):
        ends = np.quantile(drawn[BY.index(name)], [0.025, 0.975])
        assert ends == pytest.approx([expected[f"strict.{name}"][end] for end in ("low", "high")], abs=1e-12), name


def test_linear_replicates_are_near_the_exact_ones() -> None:
    linear = rank(MODELS, replicates=400, bootstrap="linear")
    assert linear.bootstrap == {**dict.fromkeys(BY, "exact"), "vice": "linear", "mean_average_precision": "linear"}
    assert set(FOUND.bootstrap.values()) == {"exact"}
    for name in MODELS:
        one, other = row_of(name), row_of(name, linear)
        assert one["vice"] == other["vice"]
        width = one["vice_high"] - one["vice_low"]
        assert other["vice_high"] - other["vice_low"] == pytest.approx(width, rel=0.15)
        assert abs(one["rank_low"] - other["rank_low"]) <= 1
    assert any("linear replicates" in sentence and "--bootstrap exact" in sentence for sentence in linear.sentences)
    assert any("every number is computed again in each" in sentence for sentence in FOUND.sentences)


def test_rank_sets_count_what_chosen_thresholds_add_to_the_variance() -> None:
    resampling = Resampling(150, 400, 0)
    tables = [reduced(samples, "strict") for samples in MODELS.values()]
    values, influence = np.array([one.values["vice"] for one in tables]), np.stack([one.influence for one in tables])
    drawn = replicates_of(tables, ("vice",), resampling)[:, 0]
    linear = values[:, None] + influence @ (resampling.counts(0, 400).T - 1.0)
    expected = rank_sets(values, drawn, influence, linear=linear)
    rows = [row_of(name) for name in MODELS]
    assert [row["rank_low"] for row in rows] == expected.low.tolist()
    assert [row["rank_high"] for row in rows] == expected.high.tolist()
    assert FOUND.critical["rank"] == pytest.approx(expected.critical, rel=1e-5)
    assert abs(expected.critical - rank_sets(values, drawn, influence).critical) > 0.001
    by_influence = rank(MODELS, replicates=400, bootstrap="linear").critical["rank"]
    assert by_influence == pytest.approx(rank_sets(values, linear, influence).critical, rel=1e-5)


def test_the_size_decides_which_replicates_are_linear() -> None:
    size = {"pairs": 752, "images": 752, "classes": 50, "replicates": 2000}
    assert linear_measures("auto", "strict", models=10, **size) == ()
    assert linear_measures("auto", "strict", models=100, **size) == ("mean_average_precision",)
    assert linear_measures("auto", "strict", models=1000, **size) == ("mean_average_precision",)
    assert linear_measures("auto", "strict", models=2000, **size) == ("mean_average_precision", "vice")
    assert linear_measures("auto", "paper", models=1000, **size) == ("mean_average_precision",)
    assert linear_measures("exact", "strict", models=1000, **size) == ()
    assert linear_measures("linear", "strict", models=2, **size) == ("mean_average_precision", "vice")
    tried(
        lambda: linear_measures("fast", "strict", models=2, **size),
        "'auto'",
        lambda: linear_measures("auto", "strict", models=2, **size),
    )


def test_models_are_in_the_order_of_their_ranks() -> None:
    values = [row["vice"] for row in FOUND.models]
    assert values == sorted(values, reverse=True)
    assert [row["rank"] for row in FOUND.models] == list(range(1, 10))
    for row in FOUND.models:
        assert row["rank_low"] <= row["alone_low"] <= row["rank"] <= row["alone_high"] <= row["rank_high"]
        assert row["vice_low"] < row["vice"] < row["vice_high"]
    assert row_of("m8")["rank_high"] < row_of("m0")["rank_low"]
    assert row_of("m8")["candidate"]
    assert not row_of("m0")["candidate"]
    loss = rank(MODELS, by="loss", replicates=200)
    assert [row["loss"] for row in loss.models] == sorted(row["loss"] for row in loss.models)


def test_a_twin_is_never_told_apart() -> None:
    found = rank({**MODELS, "twin": MODELS["m8"]}, replicates=300)
    assert row_of("twin", found)["rank"] == row_of("m8", found)["rank"] == 1
    assert row_of("m8", found)["rank_high"] >= 2


def test_beyond_accuracy_and_the_front() -> None:
    x, y = ([row[name] for row in FOUND.models] for name in ("mean_average_precision", "vice"))
    slope, start = np.polyfit(x, y, 1)
    for row, a, b in zip(FOUND.models, x, y, strict=True):
        assert row["predicted"] == pytest.approx(start + slope * a)
        assert row["given_accuracy"] == pytest.approx(b - row["predicted"])
        assert row["given_accuracy_low"] < row["given_accuracy"] < row["given_accuracy_high"]
        assert row["on_front"] == (not any(c >= a and d >= b and (c > a or d > b) for c, d in zip(x, y, strict=True)))
        assert 0 <= row["front_share"] <= 1
    assert FOUND.models[0]["on_front"]  # the highest VICE of all
    few = rank({name: MODELS[name] for name in ("m0", "m4", "m8")}, replicates=200)
    assert row_of("m0", few)["given_accuracy"] is None
    assert any("needs 5 models or more" in sentence for sentence in few.sentences)


def test_the_sentences_say_what_is_established() -> None:
    best = FOUND.models[0]
    assert FOUND.sentences[0].startswith(
        f"{best['name']} has the highest VICE (strict) of 9 models, {best['vice']:.3f};"
    )
    assert f"{FOUND.told_apart} of 36 pairs of models are told apart" in FOUND.sentences[1]
    able = sum(row["candidate"] for row in FOUND.models)
    assert FOUND.sentences[2].startswith(f"{able} models cannot be excluded from the best 3;")
    assert FOUND.sentences[-1].startswith("Each is one trained model")


def test_what_differs_between_the_tables_is_said() -> None:
    one, other = models(2).values()
    settings = {**other.manifest["explanations"]["strict:cam"], "method": "gradcam"}
    manifest = {**other.manifest, "explanations": {"strict:cam": settings}}
    changed = Samples(manifest, other.images, other.regions, other.maps)
    said = rank({"a": one, "b": changed}, replicates=100).sentences
    assert any(sentence.startswith("Not the same question: the maps differ in method (2 values).") for sentence in said)
    digests = [f"{i:016x}" for i in range(len(one.images))]
    told = {
        name: dataclasses.replace(one.images, image_digest=np.array(column, dtype=object))
        for name, column in {"a": digests, "b": digests[::-1]}.items()
    }
    both = {name: Samples(one.manifest, images, one.regions, one.maps) for name, images in told.items()}
    said = rank(both, replicates=100).sentences
    assert "Not the same pictures: the image files of a differ from those of b." in said


def test_a_model_without_the_number_comes_last_with_its_reason() -> None:
    flat = MODELS["m0"]
    images = dataclasses.replace(flat.images, logits=np.zeros_like(flat.images.logits))
    constant = Samples(flat.manifest, images, flat.regions, flat.maps)
    found = rank({"flat": constant, **MODELS}, replicates=200)
    assert found.models[-1]["name"] == "flat"
    assert found.models[-1]["rank"] is None
    assert found.models[-1]["ji"] is not None
    assert "must vary" in found.models[-1]["undefined"]["vice"]
    assert len(found.ranked) == 9
    assert any(s.startswith("1 without a rank, as VICE (strict) is undefined: flat.") for s in found.sentences)
    by_ji = tried(
        lambda: rank({"flat": constant, "m1": MODELS["m1"]}, replicates=100),
        "--by ji",
        lambda: rank({"flat": constant, "m1": MODELS["m1"]}, by="ji", replicates=100),
    )
    assert len(by_ji.ranked) == 2


def test_wrong_arguments_are_refused() -> None:
    def ranked(**arguments: object) -> object:
        return rank(MODELS, **{"replicates": 100, **arguments})

    tried(lambda: ranked(by="map"), "`mean_average_precision`", lambda: ranked(by="mean_average_precision"))
    tried(lambda: ranked(by="ece_ml"), "vice, ji", lambda: ranked(by="ji"))
    tried(lambda: ranked(protocol="both"), "'strict'", lambda: ranked(protocol="strict"))
    tried(lambda: ranked(replicates=50), "2000", lambda: ranked(replicates=2000))
    tried(lambda: ranked(top=9), "from 1 to 8", lambda: ranked(top=8))
    with pytest.raises(
        ViceError, match=r"none of 9 could be read\. m0: The table was not assessed under `paper`, only"
    ):
        ranked(protocol="paper")


def test_skewed_losses_of_paper_are_said() -> None:
    made = defined(80)
    tables = {f"m{i}": noisy(table_of(made), i, 6.0) for i in range(3)}
    found = rank(tables, protocol="paper", replicates=100)
    skewed = [name for name in tables if reduced(tables[name], "paper").facts.get("reliable") is False]
    assert len(skewed) >= 1
    assert any(s.startswith(f"The losses of {len(skewed)} of 3 models are skewed") for s in found.sentences)


def test_the_reader_of_the_headline_gives_the_same_pairs(tmp_path) -> None:
    whole = table_of(scenes(40))
    whole.save(tmp_path / "table")
    for protocol in ("strict", "paper"):
        part = read_headline(tmp_path / "table", protocol)
        assert reduced(part, protocol).values == reduced(Samples.load(tmp_path / "table"), protocol).values
        assert reduced(part, protocol).truth == reduced(whole, protocol).truth


def test_intervals_stay_within_the_bounds_of_their_measure() -> None:
    assert _limits("vice", 0.99, 0.2)[1] < 1
    assert _limits("vice", -0.99, 0.2)[0] > -1
    assert _limits("ji", 0.999, 0.2)[1] <= 1
    assert _limits("ml_accuracy", 0.001, 0.2)[0] >= 0
    assert _limits("loss", 0.01, 0.2)[0] > 0
    # In the middle all scales are alike: the distance to first order.
    assert np.diff(_limits("ji", 0.5, 0.01)) == pytest.approx([0.02], rel=1e-3)


def test_the_share_of_the_top_counts_ties_against_the_model() -> None:
    logits, targets = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), np.array([[1, 0, 0], [0, 1, 0]])
    assert (top_share(logits, targets, 1), top_share(logits, targets, 5)) == (0.5, 1.0)


def test_a_ranking_is_a_data_frame() -> None:
    pytest.importorskip("pandas")
    frame = FOUND.to_pandas()
    assert frame["name"].tolist() == [row["name"] for row in FOUND.models]
    assert "undefined" not in frame
    assert repr(FOUND).startswith("Ranking(9 models, 150 images, by strict.vice: ")


def test_exact_is_exact_at_any_size_and_automatic_says_that_it_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where `vice measure` would take linear replicates.
    monkeypatch.setattr(HeldOutSpearman, "most_work", 1000)
    monkeypatch.setattr(MeanAveragePrecision, "most_work", 1000)
    exact = rank(MODELS, top=3, replicates=400, bootstrap="exact")
    assert exact.to_json() == FOUND.to_json()
    auto = rank(MODELS, replicates=400)
    assert auto.bootstrap["vice"] == "linear"
    assert any("linear replicates" in sentence for sentence in auto.sentences)
    linear = rank(MODELS, replicates=400, bootstrap="linear")
    assert [row["rank_low"] for row in auto.models] == [row["rank_low"] for row in linear.models]
    assert auto.critical["rank"] == linear.critical["rank"]


def test_many_pairs_of_one_model_are_linear_as_in_its_measurement() -> None:
    size = {"models": 2, "images": 1000, "classes": 2, "replicates": 2000}
    most = HeldOutSpearman.most_work // 2000
    assert linear_measures("auto", "strict", pairs=most, **size) == ()
    assert linear_measures("auto", "strict", pairs=most + 1, **size) == ("vice",)
    assert linear_measures("exact", "strict", pairs=most + 1, **size) == ()
    assert linear_measures("auto", "paper", pairs=most + 1, **size) == ()
