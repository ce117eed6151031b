"""The sweep of relevance over timm: which methods have a rule for every step of which module's networks.

Networks are built without weights (torch's device "meta"): a rule is missing or not whatever the numbers are.
"""

import sys
from pathlib import Path

import pytest
import timm
import torch

from torchvice.explain.input_relevance import RULES
from torchvice.explain.surrogate import surrogate
from variants import slow_but

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from networks import small_member

METHODS = ("attnlrp", "cp_lrp", "attnlrp_gamma", "lrp_zplus")


def reasons_against(name):
    """Why a network of timm is not supported, method by method; empty if all are."""
    config = timm.get_pretrained_cfg(name)
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5).eval()
        images = torch.zeros(1, *(config.input_size if config else (3, 224, 224)), requires_grad=True)
    found = {}
    for method in METHODS:
        try:
            with surrogate(model, method, RULES[method]):
                if not model(images).requires_grad:
                    found[method] = "no gradient reaches the image"
        except Exception as error:  # any failure of any network is a reason
            found[method] = f"{type(error).__name__}: {error}"
    return found


@pytest.mark.parametrize(
    "name",
    slow_but(
        [
            "deit_tiny_distilled_patch16_224",
            "beit_base_patch16_224",
            "eva02_tiny_patch14_224",
            "swin_tiny_patch4_window7_224",
            "mixer_s16_224",
            "resnet18",
            "convnextv2_atto",
            "efficientnet_b0",
            "vit_base_patch16_siglip_224",
        ],
        *("deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "efficientnet_b0"),
    ),
)
def test_has_a_rule_for_every_step(name):
    assert reasons_against(name) == {}


@pytest.mark.slow
def test_nine_tenths_of_timm():
    names = [name for name in map(small_member, timm.list_modules()) if name]
    bad = {name: reasons for name in names if (reasons := reasons_against(name))}
    assert len(bad) <= 0.1 * len(names), bad
