"""The benchmark of floors counts the products that it says, and runs on small networks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from torchvice import Explainer

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def floors(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("floors")
    for name in ("floors", "gpu_assess", "curve", "machine"):
        sys.modules.pop(name, None)


def operations(work) -> int:  # type: ignore[no-untyped-def]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_the_products_are_those_of_a_forward_pass(floors: ModuleType, name: str) -> None:
    model = timm.create_model(name, num_classes=20).eval()
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # torch does not count what is fused
    images = torch.randn(1, 3, 160, 160)
    products = floors.products_of(model, images)
    assert operations(floors.run_all(products, "forward")) == operations(lambda: model(images))


def test_the_gradients_have_the_shape_of_the_inputs(floors: ModuleType) -> None:
    model = timm.create_model("test_resnet", num_classes=20).eval()
    for product in floors.products_of(model, torch.randn(1, 3, 64, 64)):
        assert product.backward().shape == product.x.shape


def test_the_products_behind_the_layer_are_those_of_gradcam(floors: ModuleType) -> None:
    model = timm.create_model("test_resnet", num_classes=20).eval()
    images = torch.randn(2, 3, 64, 64)
    explainer, products = Explainer(model, "gradcam"), floors.products_of(model, images)
    assert [p.name for p in floors.behind(model, products, explainer)] == ["fc"]


def test_the_command_prints_a_ratio_for_each(
    floors: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["floors.py", "--tiny", "--only", "vit_small_patch16_224", "curve"]
    monkeypatch.setattr(sys, "argv", given)
    assert floors.main() in (0, 1)
    rows = [
        line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "what" not in line
    ]
    assert len(rows) == 13
    assert all(float(row[2]) > 0 and float(row[3]) > 0 and float(row[4]) > 0 for row in rows)
