"""What a table was made of: shards without a manifest, of another model, lost or damaged, are never mixed in."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import torchvice
from torchvice import ViceError
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    root: Path = tmp_path_factory.mktemp("digits")
    write_digits(root, train=8, val=6, test=8, size=64)
    return root


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model: torch.nn.Module = timm.create_model("test_resnet", num_classes=10)
    return model.eval()


def assess(digits: Path, out: Path, seed: int = 0) -> torchvice.Samples:
    data = VocDataset(digits, "test")
    return torchvice.assess(network(seed), data, out=out, view_size=64, crop=64, shard_size=4, protocols=["strict"])


def test_shards_without_a_manifest_are_not_mixed_with_those_of_another_model(digits, tmp_path) -> None:
    assess(digits, tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ViceError, match=r"holds shards of a table, but no manifest\.json that says which model"):
        assess(digits, tmp_path, seed=1)


def test_a_lost_shard_is_missed_and_made_again(digits, tmp_path) -> None:
    before = assess(digits, tmp_path)
    (tmp_path / "images-00001.parquet").unlink()
    with pytest.raises(ViceError, match=r"must hold images-00001\.parquet, which its manifest lists"):
        torchvice.Samples.load(tmp_path)
    after = assess(digits, tmp_path)
    assert sorted(after.images.image_id) == sorted(before.images.image_id)
    assert torchvice.Samples.load(tmp_path).manifest["files"] == before.manifest["files"]


def test_a_damaged_footer_is_found(digits, tmp_path) -> None:
    assess(digits, tmp_path)
    file = tmp_path / "regions-00000.parquet"
    content = bytearray(file.read_bytes())
    for place in range(len(content) - 400, len(content), 13):
        changed = content.copy()
        changed[place] ^= 4
        file.write_bytes(changed)
        with pytest.raises(ViceError, match="it is not the file that the manifest was written for"):
            torchvice.Samples.load(tmp_path)
