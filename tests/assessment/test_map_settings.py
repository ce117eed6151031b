"""MapSettings and Extras: keywords that mirror the fields, checks at the door, values that the network completes."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import get_args, get_type_hints

import pytest
import timm

import torchvice
from torchvice import ViceError
from torchvice.assessment import Extras, MapSettings
from torchvice.assessment.controls import CONTROL_SETS, CONTROLS
from torchvice.assessment.map_settings import MapKeywords, packed
from torchvice.assessment.request import AssessKeywords, ExtrasKeywords
from torchvice.cli.assess import Controls
from torchvice.data import open_images
from torchvice.data.open import FOLDERS, FolderKeywords
from torchvice.explain import METHODS, Choices
from torchvice.models.families import MapSite
from torchvice.study.plan import AssessmentRequest


def test_the_keywords_are_the_fields() -> None:
    for keywords, record in ((MapKeywords, MapSettings), (ExtrasKeywords, Extras)):
        assert list(keywords.__annotations__) == [f.name for f in fields(record)]  # type: ignore[arg-type]
    named = {f.name for record in (MapSettings, Extras) for f in fields(record)}
    assert set(AssessKeywords.__annotations__) == {*named, *FOLDERS}
    assert set(FolderKeywords.__annotations__) == set(FOLDERS) == set(signature(open_images).parameters)


def test_every_set_of_controls_has_its_name_everywhere() -> None:
    assert [choice.value for choice in Controls] == list(CONTROL_SETS)
    assert list(get_args(get_type_hints(AssessmentRequest)["controls"])) == list(CONTROL_SETS)
    assert CONTROL_SETS == {
        "all": ("random", "center", "foreground", "shuffled", "random_weights"),
        "cheap": ("random", "center", "foreground", "shuffled"),
        "none": (),
    }
    assert {name for name in CONTROLS if name in METHODS} == {"random", "center", "foreground"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"vew_size": 3}, r"Unknown keyword argument `vew_size`.*\n.*Did you mean `view_size`\?"),
        ({"controls": True}, "Unknown keyword argument `controls`"),
        ({"method": "gradcma"}, r"Did you mean `gradcam`\?"),
        ({"layer": "a", "choices": Choices(layers=("b",))}, "both `layer` and the choice `layers`"),
        ({"layer": "a", "site": MapSite("b")}, "both `layer` and `site`"),
        ({"site": MapSite("a"), "choices": Choices(layers=("b",))}, "both `site` and the choice `layers`"),
        ({"view_size": 0}, "`view_size` must be 8 to 16384"),
        ({"crop": -1}, "`crop` must be 8 to 16384"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"device": "nowhere"}, "The device 'nowhere' must be available"),
        ({"method": "saliency", "choices": Choices(eigen_smooth=True)}, "`eigen_smooth` must go with"),
    ],
)
def test_a_mistake_is_found_without_a_model(keywords, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ViceError, match=message):
        packed(keywords)


def test_keywords_replace_fields_and_none_leaves_them() -> None:
    record = packed({"view_size": 64, "mean": [0, 0.5, 1], "choices": None, "crop": None}, MapSettings(crop=32))
    assert record == MapSettings(view_size=64, mean=(0.0, 0.5, 1.0), crop=32, choices=Choices())
    assert record.completed(view_size=8, batch_size=4) == packed({"batch_size": 4}, record)


def test_a_network_completes_what_is_open() -> None:
    model = timm.create_model("test_resnet", num_classes=2)
    record = MapSettings(crop=32).for_model(model)
    assert (record.view_size, record.crop, record.batch_size) == (160, 32, 32)
    assert record.mean == record.std == (0.5, 0.5, 0.5)
    assert record.for_model(model) == record


def test_extras_as_keywords() -> None:
    assert Extras.of(True).controls == tuple(CONTROLS)
    assert Extras.of(False, ["mirror"], "road") == Extras.of((), ("mirror",), ["road", "road"])
    assert Extras.of(None).controls is None
    with pytest.raises(ViceError, match=r"Did you mean `controls`\?"):
        torchvice.assess(None, None, out="x", contrls=True)  # type: ignore[call-arg, arg-type]
