"""Training from published checkpoints: fine-tuning and linear probing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchvice.config import Settings
from torchvice.models.build import build_model
from torchvice.training.run import train
from variants import slow_but

Make = Callable[..., Settings]
SMALL = {
    "resnet50": {"channels": [8, 16, 16, 16]},
    "vit_base_patch16_224": {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2},
    "beit_base_patch16_224": {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2},
}


@pytest.mark.parametrize("probe", slow_but([False, True], False))
@pytest.mark.parametrize(
    ("name", "scheme", "wrap"),
    [
        ("resnet50", "moco_v2", "state_dict/module.encoder_q."),
        pytest.param("resnet50", "densecl", "state_dict/encoder_q.0.", marks=pytest.mark.slow),
        pytest.param("resnet50", "byol", "model/", marks=pytest.mark.slow),
        ("vit_base_patch16_224", "moco_v3", "state_dict/module.base_encoder."),
        pytest.param("vit_base_patch16_224", "dino", "teacher/backbone.", marks=pytest.mark.slow),
        ("vit_base_patch16_224", "mae", "model/"),
        ("beit_base_patch16_224", "beit", "model/"),
    ],
)
def test_both_settings_work_with_each_scheme(
    name: str, scheme: str, wrap: str, probe: bool, settings: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = {n: v for n, v in build_model(name, 1, arguments=SMALL[name]).state_dict().items() if "fc." not in n}
    start = {n: v for n, v in start.items() if not n.startswith("head.")}
    if scheme == "beit":  # as pre-trained: one table, and a norm where the fine-tuned one has fc_norm
        start = {n: v for n, v in start.items() if "fc_norm" not in n}
        start["rel_pos_bias.relative_position_bias_table"] = start.pop("blocks.0.attn.relative_position_bias_table")
    under, prefix = wrap.split("/")
    torch.save({under: {prefix + n: v for n, v in start.items()}}, tmp_path / "start.pth")
    run = train(
        settings(
            f"model={{name: {name}}}",
            *(f"model.arguments.{key}={value}" for key, value in SMALL[name].items()),
            f"model.weights={tmp_path / 'start.pth'}",
            f"model.scheme={scheme if scheme in ('byol', 'mae') else 'auto'}",
            f"model.linear_probe={str(probe).lower()}",
        )
    )
    said = " ".join(capsys.readouterr().err.split())
    assert f"start.pth: {scheme} (" in said
    assert f"matched: {'9' if scheme == 'beit' else '100.0%'}" in said
    assert ("SAME padding" in said) == (scheme == "byol")
    trained = run.model("last").state_dict()
    if "rel_pos_bias.relative_position_bias_table" in start:
        start["blocks.0.attn.relative_position_bias_table"] = start.pop("rel_pos_bias.relative_position_bias_table")
    moved = {n for n, value in start.items() if not torch.equal(value, trained[n])}
    if probe:
        assert not moved  # the classifier alone, BatchNorm's statistics included
    else:
        assert len(moved) > 0.9 * len(start)
