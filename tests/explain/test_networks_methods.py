"""The sweep of every method over timm in experiments/networks_methods.py: its reasons, and the section of the page."""

import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from networks import PAGE, built
from networks_methods import END, START, SWEPT, grouped, reasons_of, section


def test_methods_of_a_network_and_reasons():
    images = torch.randn((2, 3, 96, 96), generator=torch.Generator().manual_seed(1))
    reasons = reasons_of(built("test_resnet"), images, ("cam", "eigencam", "rollout", "nobody"))
    assert sorted(reasons) == ["nobody", "rollout"]
    assert "attend globally" in reasons["rollout"]


def test_the_section_names_the_shorter_side_and_joins_reasons_that_differ_in_names():
    found = {
        "a": ("a_net", {method: "a layer, but Anet has `x.1`." for method in SWEPT if method != "cam"}),
        "b": ("b_net", {"cam": "a layer, but Bnet has `y.2`."}),
        "c": ("c_net", {}),
    }
    text = section(found)
    assert "| cam | 2 of 3 | not b |\n" in text
    assert "| gradcam | 2 of 3 | not a |\n" in text
    assert grouped(found) == [("a layer, but Anet has `x.1`.", len(SWEPT), f"{SWEPT[1]} of a")]
    lost = {name: (name, {"cam": "one"} if name != "a" else {}) for name in "abc"}
    assert "| cam | 1 of 3 | only a |\n" in section(lost)
    assert "| gradcam | 3 of 3 | all |\n" in section(lost)


def test_the_page_has_its_place():
    text = PAGE.read_text(encoding="utf-8")
    assert 0 < text.index(START) < text.index(END) < text.index("## Table")
