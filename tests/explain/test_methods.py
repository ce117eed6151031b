"""The registry of methods, and docs/explanations.md held against it."""

import re
from pathlib import Path

import pytest
import timm
import torch

from torchvice import Explainer, ViceError
from torchvice.explain import METHODS, register
from torchvice.explain.gradient import gradcam, register_weights

PAGE = (Path(__file__).parents[2] / "docs" / "explanations.md").read_text(encoding="utf-8")


def test_the_page_names_every_method_and_no_other_in_the_order_of_the_registry():
    assert re.findall(r"^- \*\*(\w+)\*\*", PAGE, re.MULTILINE) == list(METHODS)


def test_a_method_registers_under_a_new_name_only():
    with pytest.raises(ViceError, match="'gradcam' is taken"):
        register("gradcam", needs="nothing", cost="1 forward", paper="mine")
    with pytest.raises(ViceError, match="'gradcam' is taken"):
        register_weights("gradcam", paper="mine")(gradcam)


def test_the_example_of_the_page_runs():
    (example,) = re.findall(r"## Add a method\n.*?```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    try:
        exec(example, names)
        explainer = Explainer(timm.create_model("test_resnet", num_classes=2), "squared", eigen_smooth=True)
        assert torch.isfinite(explainer(torch.ones(1, 3, 64, 64), [[0]]).maps).all()
        assert (names["squared"](torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), 3.0)) == 9).all()
    finally:
        METHODS.pop("squared", None)
