"""The sweep over timm in experiments/networks.py: which networks are supported, that none is left out, and the page."""

import re
import sys
from pathlib import Path

import pytest
import timm
import torch

from torchvice import ViceError
from torchvice.explain import Explanation

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
from networks import PAGE, Row, explain_network, fault_of, page, small_member, sweep

TEXT = PAGE.read_text(encoding="utf-8")


# The page is of one version of timm: others have other networks.
of_the_pages_version = pytest.mark.skipif(timm.__version__ not in TEXT, reason="docs/networks.md is of another timm")


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
    row = explain_network(module, network)
    assert row.supported, row.reason
    assert min(row.grid) > 1


def test_a_network_that_fails_is_a_row_with_its_reason():
    row = explain_network("resnet", "resnet_of_nobody")
    assert not row.supported
    assert "resnet_of_nobody" in row.reason
    assert "resnet_of_nobody" in page([row], TEXT)
    with pytest.raises(ViceError, match="levit"):
        sweep(["levitt"])


@of_the_pages_version
def test_random_state_and_order():
    state = torch.random.get_rng_state()
    reported = []
    rows = sweep(["starnet", "lcnetv2"], reported.append)
    assert [row.module for row in rows] == [row.module for row in reported] == ["starnet", "lcnetv2"]
    assert torch.equal(state, torch.random.get_rng_state())


@of_the_pages_version
def test_the_smallest_member_that_is_a_classifier():
    assert small_member("cspnext") == "cspnext_tiny"
    # The encoders without a pool are smaller by nothing, but give no logits.
    assert not small_member("gemma4_vit").endswith("_enc")


def _explanation(maps, status=("ok", "ok")):
    return Explanation(torch.zeros(1, 2), torch.tensor([[0, 0], [0, 1]]), maps, status)


def test_what_counts_as_a_fault():
    good = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])
    assert fault_of(_explanation(good)) == ""
    assert "finite" in fault_of(_explanation(good * torch.inf))
    assert "single" in fault_of(_explanation(good[:, :, :1]))
    assert "zero" in fault_of(_explanation(-good, ("zero", "zero")))
    assert "every place" in fault_of(_explanation(torch.ones(2, 1, 2) + 1e-6 * good))
    assert "two labels" in fault_of(_explanation(good[[0, 0]]))


def test_the_page_says_how_many_and_why_not():
    text = page([Row("b", "b_net", 224, reason="no | map"), Row("a", reason="no member is a classifier")], TEXT)
    assert "0 of 2 modules (0%)" in text
    assert text.startswith("# Networks")
    assert "beit_base" not in text
    with pytest.raises(ViceError, match="one table"):
        page([], "# Networks")
    assert text.index("| a | - |") < text.index("| b | b_net | 224 | **no** | no / map |")


def test_the_page_in_the_docs_lists_every_module():
    if f"timm {timm.__version__} work" not in TEXT:
        pytest.skip("the page is of another timm")
    rows = TEXT.split("\n## Table\n")[1]
    assert re.findall(r"^\| (\w+) \| (?!network)", rows, re.MULTILINE) == sorted(timm.list_modules())


@pytest.mark.slow
def test_nine_tenths_of_timm():
    rows = sweep()
    assert len(rows) == len(timm.list_modules())
    bad = {row.module: row.reason for row in rows if not row.supported}
    assert len(bad) <= 0.1 * len(rows), bad
