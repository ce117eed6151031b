"""torchvice.ray.collect into a folder with a table, and what its files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch

from torchvice.data import open_dataset
from torchvice.data.digits import write_digits
from torchvice.errors import ViceError
from torchvice.ray import Assessor, collect
from torchvice.samples import ShardFolder

SIZES: dict[str, Any] = {"view_size": 64, "crop": 64, "batch_size": 4, "mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=1, val=1, test=4, size=48)
    return root


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


@pytest.fixture(scope="module")
def ids(digits: Path) -> np.ndarray:
    return np.array([record.image_id for record in open_dataset(digits, "test").records])


def write(folder: Path, table: pa.Table) -> None:
    folder.mkdir()
    pq.write_table(table, folder / "0.parquet")


@pytest.mark.parametrize(
    ("more", "lacks"),
    [({"also": ["gradcam"]}, "`strict:gradcam`"), ({"without": ["object"]}, "`interventions` of `strict:cam`")],
)
def test_a_table_that_lacks_what_the_rows_hold_stays_as_it_was(
    model: Any, digits: Path, ids: np.ndarray, tmp_path: Path, more: dict[str, Any], lacks: str
) -> None:
    plain: dict[str, Any] = {"controls": [], "without": "none", **SIZES}
    for name, options in (("plain", plain), ("more", {**plain, **more})):
        write(tmp_path / name, Assessor(model, digits, split="test", **options)({"image_id": ids}))
    collect(tmp_path / "plain", tmp_path / "t")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    with pytest.raises(ViceError, match=f"was made without {lacks}, and these rows cannot add it") as caught:
        collect(tmp_path / "more", tmp_path / "t")
    assert {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()} == kept
    assert caught.value.way_out == "Give another folder."
    assert collect(tmp_path / "more", tmp_path / "u").manifest["finished"]


def test_the_files_say_what_was_measured(model: Any, digits: Path, ids: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "rows", Assessor(model, digits, split="test", controls=[], **SIZES)({"image_id": ids}))
    collect(tmp_path / "rows", tmp_path / "t")
    assert ShardFolder(tmp_path / "t").measured(0)["strict:cam"] == ["interventions"]
