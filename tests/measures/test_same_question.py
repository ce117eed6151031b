"""Tables that answer different questions are refused where nothing can be compared, and told apart elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulated import HEADLINE, simulated
from torchvice.errors import ViceError
from torchvice.measures import compare
from torchvice.measures.compare import compare_groups
from torchvice.samples import Samples

BLUR = {"treatments": ["object"], "filling": "blur", "dilation": 5, "sigma": 0.25, "seed": 0}
FAITHFUL = {"measures": ["insertion"], "steps": 20, "canvas": "blur", "blank": "mean", "noise": 0.01, "orders": 3}


def made(**settings: Any) -> Samples:
    """A table with the margins without the object and the insertion of its maps, and these settings of its headline."""
    table = simulated(80)
    count = len(table.regions)
    rng = np.random.default_rng(0)
    columns = {name: rng.random(count) for name in ("insertion", "insertion_random")}
    columns |= {"without_object": rng.normal(size=count), "p_full": np.full(count, 0.9), "p_canvas": np.zeros(count)}
    headline = {**table.manifest["explanations"][HEADLINE], **settings}
    manifest = {**table.manifest, "explanations": {HEADLINE: headline}}
    return Samples(manifest, table.images, replace(table.regions, **columns), table.maps)


def told(first: Samples, second: Samples, quality: str = "ji") -> list[str]:
    sentences = compare({"a": first, "b": second}, quality=quality, replicates=100).sentences
    return [sentence for sentence in sentences if sentence.startswith("Not the same question")]


def test_exclusive_and_multilabel_tables_are_not_compared() -> None:
    table = simulated(60)
    single = simulated(60, targets="exclusive")
    with pytest.raises(ViceError, match="those of a are multilabel and those of b are exclusive") as caught:
        compare({"a": table, "b": single}, replicates=100)
    assert "both with --targets exclusive" in str(caught.value)
    with pytest.raises(ViceError, match="same kind of targets"):
        compare_groups({"a": single, "b": table}, {"A": ["a"], "B": ["b"]}, replicates=100)


def test_objects_that_were_replaced_otherwise_are_told() -> None:
    blur = made(interventions=BLUR)
    filled = made(interventions={**BLUR, "filling": "mean", "dilation": 9, "seed": 1})
    assert told(blur, filled) == [
        "Not the same question: the replaced objects differ in filling (a: blur, b: mean); dilation (a: 5, b: 9). "
        "What follows is about that, too."
    ]
    assert told(blur, made(interventions={**BLUR, "sigma": 1.0, "treatments": ["object", "noise"]})) == []
    assert told(blur, blur) == []
    # Nothing is known of tables without the entry, and nothing is compared where one has no such column.
    assert told(blur, made()) == []
    plain = replace(filled.regions, without_object=np.full(len(filled.regions), np.nan))
    assert told(blur, Samples(filled.manifest, filled.images, plain, filled.maps)) == []


def test_faithfulness_of_other_settings_is_told_where_it_is_compared() -> None:
    first = made(faithfulness=FAITHFUL)
    other = made(faithfulness={**FAITHFUL, "canvas": "mean", "blank": "blur", "orders": 9}, method="gradcam")
    assert told(first, other, "insertion") == [
        "Not the same question: the maps differ in method (a: cam, b: gradcam); the faithfulness was measured with "
        "other canvas (a: blur, b: mean). What follows is about that, too."
    ]
    assert told(first, made(faithfulness={**FAITHFUL, "canvas": "mean"})) == []
    assert told(first, first, "insertion") == []
