"""Settings that change a training change it, or are refused in one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchvice.config import Settings
from torchvice.errors import ViceError
from torchvice.models.build import build_model, frozen_to_eval, linear_probe
from torchvice.training.run import train
from variants import slow_but

Make = Callable[..., Settings]


@pytest.mark.parametrize("labels", ["auto", "masks", "cls_labels"])
def test_a_training_resumes_with_other_masks_only_if_they_are_not_its_labels(
    settings: Make, colours: Path, tmp_path: Path, labels: str
) -> None:
    root = shutil.copytree(colours, tmp_path / "set")
    shutil.copytree(root / "VOC2012" / "SegmentationClass", root / "VOC2012" / "Other")
    if labels == "auto":
        (root / "cls_labels.npy").unlink()  # masks are the only labels left
    where = (f"data.root={root}", f"data.labels={labels}")
    train(settings(*where), progress=False)
    if labels == "cls_labels":
        train(settings(*where, "data.masks=Other"), resume=True, progress=False)
        return
    with pytest.raises(ViceError, match="was None and is 'Other', and the class labels are those of the") as caught:
        train(settings(*where, "data.masks=Other"), resume=True, progress=False)
    assert "Restore the setting" in str(caught.value.way_out)


@pytest.mark.parametrize(
    "name",
    slow_but(["test_vit", "test_resnet", "convnext_atto", "swin_tiny_patch4_window7_224"], "test_vit", "test_resnet"),
)
def test_dropout_acts_in_a_linear_probe_and_nothing_frozen_does(name: str) -> None:
    size = 224 if "swin" in name else 160 if "vit" in name else 64
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))

    def outputs(**rates: float) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = linear_probe(build_model(name, 3, arguments=rates))
        model.train()
        frozen_to_eval(model)
        with torch.no_grad():
            return [model(images) for _ in range(2)]

    first, second = outputs(drop_rate=0.5)
    assert not torch.equal(first, second)
    plain = outputs()
    assert torch.equal(*plain)
    # Stochastic depth and BatchNorm are of the frozen part: the same numbers as without.
    if name != "test_resnet":
        for found in outputs(drop_path_rate=0.5):
            assert torch.equal(found, plain[0])


def test_a_trained_probe_depends_on_the_dropout(settings: Make) -> None:
    probe = ("model={name: test_vit, arguments: null, linear_probe: true}", "transform.crop=160")
    small = ("trainer.batch_size=32", "data.train_split=val")
    weights = []
    for dropout in ("0", "0.5"):
        chosen = settings(*probe, *small, f"session_name=at{dropout}", f"regularisation.dropout={dropout}")
        weights.append(train(chosen, progress=False).model("last").get_parameter("head.weight"))
    assert not torch.equal(*weights)


def test_a_linear_probe_has_no_stochastic_depth(settings: Make) -> None:
    with pytest.raises(ViceError, match=r"`regularisation\.drop_path` must be 0 with `model\.linear_probe`"):
        train(settings("model.linear_probe=true", "regularisation.drop_path=0.1"), progress=False)
