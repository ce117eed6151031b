"""What a table was made of: shards without a manifest, of another model, lost or damaged, are never mixed in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import torchvice
from torchvice import ViceError
from torchvice.assessment.images import contents_of
from torchvice.assessment.map_files import write_map_files
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


def test_another_network_on_other_data_is_named_before_the_settings(digits, tmp_path) -> None:
    assess(digits, tmp_path / "table")
    torch.manual_seed(0)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)).eval()
    mask = np.zeros((64, 64), np.uint8)
    mask[9:30, 9:30] = 255
    items = [(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8), mask) for seed in range(4)]
    with pytest.raises(ViceError) as told:
        torchvice.assess(other, items, out=tmp_path / "table", view_size=64, crop=64, protocols=["strict"])
    said = told.value.message.partition(f"The table in {tmp_path / 'table'} is of ")[2]
    network = "another network ('ResNet' in the table, but 'Sequential' now)"
    data = f"other data ('{digits}' in the table, but without a folder now)"
    assert said.startswith(f"{network}, {data}, other classes (['")
    assert " and was made with other settings: `mean` is" in said
    assert "`layer`" not in said


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


def exchange_ids(root: Path) -> None:
    lists = next(root.rglob("test.txt"))
    lines = lists.read_text().splitlines()
    lists.write_text("\n".join([*lines[1:], lines[0]]) + "\n")


def blacken_an_image(root: Path) -> None:
    image = VocDataset(root, "test").records[-1].image
    Image.fromarray(np.zeros_like(np.asarray(Image.open(image)))).save(image)


def shift_a_mask(root: Path) -> None:
    mask = VocDataset(root, "test").records[-1].mask
    assert mask is not None
    with Image.open(mask) as opened:
        shifted, palette = np.roll(np.asarray(opened), 1, axis=1), opened.getpalette()
    changed = Image.fromarray(shifted)
    if palette:
        changed.putpalette(palette)
    changed.save(mask)


def remove_a_mask(root: Path) -> None:
    image_id = VocDataset(root, "test").records[-1].image_id
    for mask in root.glob(f"VOC2012/SegmentationClass*/{image_id}.png"):
        mask.unlink()


def change_a_label(root: Path) -> None:
    file = next(root.rglob("cls_labels.npy"))
    labels = np.load(file, allow_pickle=True).item()  # written by this test's own fixture
    for name in sorted(labels):
        labels[name] = 1 - labels[name]
    np.save(file, labels)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (exchange_ids, "ids"),
        (blacken_an_image, "images"),
        (shift_a_mask, "masks"),
        (remove_a_mask, "masks"),
        (change_a_label, "targets"),
    ],
)
def test_a_table_takes_no_rows_of_a_changed_dataset(
    digits: Path, tmp_path: Path, change: Callable[[Path], None], named: str
) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(digits, root)
    before = assess(root, out)
    change(root)
    with pytest.raises(ViceError, match=rf"^The ({named}) of the dataset are not those that the table in"):
        assess(root, out)
    assert np.array_equal(torchvice.Samples.load(out).images.logits, before.images.logits)


def test_data_that_have_moved_are_the_same_data(digits: Path, tmp_path: Path) -> None:
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    shutil.copytree(digits, first)
    before = assess(first, out)
    first.rename(second)
    after = assess(second, out)
    assert np.array_equal(after.images.logits, before.images.logits)
    assert after.manifest["dataset"] == before.manifest["dataset"] | {"root": str(second)}
    assert after.manifest["finished"]
    (out / "images-00001.parquet").unlink()
    again = assess(shutil.copytree(second, first), out)  # a part of the table is made of the other folder
    assert sorted(again.images.image_id) == sorted(before.images.image_id)
    blacken_an_image(second)
    with pytest.raises(ViceError, match=rf"is of other data \('{first}' in the table, but '{second}' now\)"):
        assess(second, out)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["contents"]  # a table of an earlier version does not know its files
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ViceError, match=r"is of other data \("):
        assess(second, out)


def test_folders_of_images_and_masks_that_have_moved_are_the_same_data(tmp_path: Path) -> None:
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
        for index in range(5):
            mask = np.zeros((16, 16), np.uint8)
            mask[index:9, 3:12] = 255
            image = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            for folder, pixels in (("photos", image), ("masks", mask)):
                (tmp_path / place / folder).mkdir(exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / place / folder / f"{index}.png")
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=1).eval()

    def assessed(place: str) -> torchvice.Samples:
        folders = {"images": tmp_path / place / "photos", "masks": tmp_path / place / "masks", "classes": ["a"]}
        return torchvice.assess(
            model, **folders, out=tmp_path / "out", view_size=32, protocols=["strict"], outputs="logits"
        )

    before = assessed("first")
    after = assessed("second")
    assert np.array_equal(after.images.logits, before.images.logits)
    assert after.manifest["dataset"]["chosen"]["masks"] == str(tmp_path / "second" / "masks")


def test_what_the_values_of_masks_mean_is_part_of_the_contents(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    data = VocDataset(tmp_path / "data", "test")
    before = contents_of(data)
    assert set(before) == {"ids", "targets", "images", "masks"}
    (tmp_path / "data" / "dataset.yaml").write_text("void: 254\n")
    assert set(contents_of(data).items()) - set(before.items()) == {("description", contents_of(data)["description"])}


def test_a_table_of_an_earlier_version_still_grows(digits: Path, tmp_path: Path) -> None:
    assess(digits, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["contents"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assess(digits, tmp_path)
    assert not torchvice.Samples.load(tmp_path).manifest["contents"]  # nobody knows of what its rows were made


def test_a_table_whose_contents_lie_under_the_dataset_is_read(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    assess(tmp_path / "data", tmp_path / "out")
    file = tmp_path / "out" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["dataset"]["contents"] = contents = manifest.pop("contents")
    file.write_text(json.dumps(manifest))
    assess(tmp_path / "data", tmp_path / "out")
    assert torchvice.Samples.load(tmp_path / "out").manifest["contents"] == contents
    shift_a_mask(tmp_path / "data")
    with pytest.raises(ViceError, match="The masks of the dataset are not those"):
        assess(tmp_path / "data", tmp_path / "out")


def test_maps_as_files_are_not_resumed_with_other_images(digits: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "maps"
    shutil.copytree(digits, root)
    model = network(0)

    def write(split: str) -> int:
        return write_map_files(model, VocDataset(root, split), out, crop=64)

    written = write("test")
    next(out.glob("*.npz")).unlink()
    assert (write("test"), write("val")) == (1, 6)  # two splits may lie in one folder
    shift_a_mask(root)  # maps are made without masks
    assert write("test") == 0
    blacken_an_image(root)
    with pytest.raises(ViceError, match="The images of the dataset are not those that the maps in"):
        write("test")
    assert len(list(out.glob("*.npz"))) == written + 6


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda m: m.update(map_settings={}), "map_settings"),
        (lambda m: m.update(map_settings=None), "map_settings"),
        (lambda m: m["map_settings"].pop("choices"), "map_settings.choices"),
        (lambda m: m["map_settings"].update(site=5), "map_settings.site"),
        (lambda m: m.pop("finished"), "finished"),
        (lambda m: m.pop("added"), "added"),
        (lambda m: m.pop("adding"), "adding"),
        (lambda m: m.update(adding={"strict:x": {"role": []}}), "adding.strict:x.role"),
    ],
)
def test_an_edited_manifest_is_not_resumed(digits, tmp_path, change, place) -> None:
    assess(digits, tmp_path)
    file = tmp_path / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(ViceError, match=rf"The manifest .* is damaged: `{place}"):
        assess(digits, tmp_path)


def test_numbers_that_json_does_not_know_are_not_written_again(digits, tmp_path) -> None:
    assess(digits, tmp_path)
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"without_row": float("nan")}))
    assert len(assess(digits, tmp_path).images) == 8
    assert json.loads(file.read_text())["without_row"] == {}
