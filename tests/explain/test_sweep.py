"""The sweep over timm: what counts as supported, that nothing is left out, and the page."""

import re
from pathlib import Path

import pytest
import timm
import torch

from torchvice import ViceError
from torchvice.explain import Explanation
from torchvice.explain.sweep import Row, _fault, judge, page, small_member, sweep

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"


@pytest.mark.parametrize(
    ("module", "network"),
    [
        ("levit", "levit_128s"),  # starts with norms of zero
        ("mlp_mixer", "gmlp_ti16_224"),  # starts with a classifier of zero
        ("crossvit", "crossvit_tiny_240"),
        ("pvt_v2", "pvt_v2_b0"),
        ("edgenext", "edgenext_xx_small"),
    ],
)
def test_a_handful_of_networks(module, network):
    row = judge(module, network)
    assert row.supported, row.reason
    assert min(row.grid) > 1


def test_a_network_that_fails_is_a_row_with_its_reason():
    row = judge("resnet", "resnet_of_nobody")
    assert not row.supported
    assert "resnet_of_nobody" in row.reason
    assert "resnet_of_nobody" in page([row])
    with pytest.raises(ViceError, match="levit"):
        sweep(["levitt"])


def test_random_state_and_order():
    state = torch.random.get_rng_state()
    told = []
    rows = sweep(["starnet", "lcnetv2"], told.append)
    assert [row.module for row in rows] == [row.module for row in told] == ["starnet", "lcnetv2"]
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_smallest_member_that_is_a_classifier():
    assert small_member("cspnext") == "cspnext_tiny"
    # The encoders without a pool are smaller by nothing, but give no logits.
    assert not small_member("gemma4_vit").endswith("_enc")


def _found(maps, status=("ok", "ok")):
    return Explanation(torch.zeros(1, 2), torch.tensor([[0, 0], [0, 1]]), maps, status)


def test_what_counts_as_a_fault():
    good = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    assert _fault(_found(good)) == ""
    assert "finite" in _fault(_found(good * torch.inf))
    assert "single" in _fault(_found(good[:, :, :1]))
    assert "zero" in _fault(_found(-good, ("zero", "zero")))
    assert "every place" in _fault(_found(torch.ones(2, 1, 2) + 1e-6 * good))
    assert "two labels" in _fault(_found(good[[0, 0]]))


def test_the_page_says_how_many_and_why_not():
    text = page([Row("b", "b_net", 224, reason="no | map"), Row("a", reason="no member is a classifier")])
    assert "0 of 2 modules (0%)" in text
    assert text.index("| a | - |") < text.index("| b | b_net | 224 | **no** | no / map |")


def test_the_page_in_the_docs_lists_every_module():
    text = PAGE.read_text(encoding="utf-8")
    if f"timm {timm.__version__} work" not in text:
        pytest.skip("the page is of another timm")
    assert re.findall(r"^\| (\w+) \| (?!network)", text, re.MULTILINE) == sorted(timm.list_modules())


@pytest.mark.slow
def test_nine_tenths_of_timm():
    rows = sweep()
    assert len(rows) == len(timm.list_modules())
    bad = {row.module: row.reason for row in rows if not row.supported}
    assert len(bad) <= 0.1 * len(rows), bad
