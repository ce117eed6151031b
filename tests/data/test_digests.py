"""Digests of every image: changed files are noticed when a table is resumed, added to, compared or drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import torchvice
from small_networks import moving_resnet
from torchvice import ViceError, files
from torchvice.commands.draw import _changed
from torchvice.commands.tables import check_unchanged, dataset_of
from torchvice.data import VocDataset
from torchvice.data.digests import digests_of, of_pixels
from torchvice.data.digits import write_digits
from torchvice.measures.compare import compare_groups
from torchvice.measures.contents import check_same_truth
from torchvice.samples import changed_images, named_images

PIXELS = {"view_size": 64, "crop": 64, "protocols": ("strict",), "shard_size": 4}


@pytest.fixture
def root(tmp_path):
    write_digits(tmp_path / "set", train=2, val=6, test=2, size=48)
    return tmp_path / "set"


def assess(root, out, split="val", **more):
    return torchvice.assess(moving_resnet(), VocDataset(root, split), out=out, **{**PIXELS, **more})


def shifted(root, place=0):
    """Move the mask of an image by one pixel, without a loss of object pixels; returns its id."""
    record = VocDataset(root, "val").records[place]
    mask = np.array(Image.open(record.mask))
    Image.fromarray(np.roll(mask, 1, 1)).save(record.mask)
    return record.image_id


def test_the_columns_are_the_files(root, tmp_path):
    samples = assess(root, tmp_path / "t")
    expected = digests_of(VocDataset(root, "val"))[1]
    assert list(samples.images.digests().values()) == expected
    assert all(len(digest) == 16 for pair in expected for digest in pair)


@pytest.mark.parametrize("more", [{}, {"also": ["gradcam"]}, {"without": ["object"]}, {"faithfulness": ["deletion"]}])
def test_a_changed_mask_is_named(root, tmp_path, more):
    assess(root, tmp_path / "t")
    name = shifted(root)
    with pytest.raises(ViceError, match=f"The masks of the dataset .* Changed: 1 of 6 images, such as `{name}`"):
        assess(root, tmp_path / "t", **more)


def test_tables_of_earlier_versions_are_read_resumed_and_added_to(root, tmp_path):
    whole = assess(root, tmp_path / "t")
    path = tmp_path / "t" / "images-00000.parquet"
    pq.write_table(pq.read_table(path).drop(["image_digest", "mask_digest"]), path, write_page_checksum=True)
    manifest = files.read_json(tmp_path / "t" / "manifest.json")
    files.write_json(tmp_path / "t" / "manifest.json", {**manifest, "files": {}})
    (tmp_path / "t" / "images-00001.parquet").unlink()
    again = assess(root, tmp_path / "t", also=["gradcam"])
    assert again.images.image_digest.tolist()[:4] == [""] * 4
    assert again.images.image_digest.tolist()[4:] == whole.images.image_digest.tolist()[4:]
    assert np.array_equal(whole.images.logits, again.images.logits)


class Arrays:
    """A dataset without files."""

    classes, records = ("a", "b"), [SimpleNamespace(image_id=name) for name in "xyz"]
    targets = np.array([[1, 0], [0, 1], [1, 0]], np.uint8)

    def __init__(self, shift=0):
        self.shift = shift

    def image(self, i):
        return np.random.default_rng(i).integers(0, 256, (48, 48, 3), dtype=np.uint8)

    def mask(self, i):
        mask = np.zeros((48, 48), np.int64)
        mask[8:20, 8 + self.shift * (i == 1) : 20] = self.targets[i].argmax() + 1
        return mask


def test_images_without_files_have_digests_of_their_pixels(tmp_path):
    settings = {**PIXELS, "outputs": "logits"}
    model = moving_resnet()
    model.fc = type(model.fc)(model.fc.in_features, 2)
    samples = torchvice.assess(model, Arrays(), out=tmp_path, **settings)
    data = Arrays()
    assert samples.images.digests()["y"] == of_pixels(("", ""), data.image(1), data.mask(1))
    torchvice.assess(model, Arrays(), out=tmp_path, also=["gradcam"], **settings)
    with pytest.raises(ViceError, match=r"The masks of the dataset .* Changed: 1 of 3 images, such as `y`"):
        torchvice.assess(model, Arrays(shift=2), out=tmp_path, also=["gradcam", "layercam"], **settings)


def test_tables_of_other_lists_are_compared_image_by_image(root, tmp_path):
    first = assess(root, tmp_path / "a")
    lines = (root / "val.txt").read_text().splitlines()
    (root / "some.txt").write_text("\n".join(lines[:4]) + "\n")
    assert check_same_truth({"a": first, "b": assess(root, tmp_path / "b", "some")}) == []
    name = shifted(root)
    other = assess(root, tmp_path / "c", "some")
    message = f"the masks of a and c differ. Changed: 1 of 4 images, such as `{name}`"
    with pytest.raises(ViceError, match=message):
        check_same_truth({"a": first, "c": other})
    with pytest.raises(ViceError, match=message):
        compare_groups({"a": first, "c": other}, {"one": ["a"], "two": ["c"]})


def test_a_shifted_mask_is_no_case_and_no_picture_of_the_page(root, tmp_path):
    samples = assess(root, tmp_path / "t")
    name = shifted(root)
    dataset = dataset_of(samples)
    place = [record.image_id for record in dataset.records].index(name)
    cases = [SimpleNamespace(image_id=r.image_id, image=dataset.image(i), mask=dataset.mask(i)) for i, r in
             enumerate(dataset.records)]  # fmt: skip
    assert _changed(samples, dataset, cases) == {name}
    assert place == 0
    with pytest.raises(ViceError, match=f"The masks in .* Changed: 1 of 6 images, such as `{name}`"):
        check_unchanged(samples, dataset)


class Boxed(Arrays):
    """The same with boxes in place of masks, and a description in its folder."""

    regions = "boxes"

    def __init__(self, root, left=0):
        super().__init__()
        self.root, self.left = root, left

    def boxes(self, i):
        return np.array([0]), np.array([[self.left * (i == 2), 0, 9, 9]])


def test_other_boxes_and_another_description_are_noticed(tmp_path):
    (tmp_path / "dataset.yaml").write_text("names: [a, b]\n")
    contents, digests = digests_of(Boxed(tmp_path))
    by_id = dict(zip("xyz", digests, strict=True))
    images = SimpleNamespace(digests=lambda: by_id)
    samples = SimpleNamespace(manifest={"contents": contents}, images=images)
    check_unchanged(samples, Boxed(tmp_path))
    with pytest.raises(ViceError, match=r"The boxes in .* Changed: 1 of 3 images, such as `z`"):
        check_unchanged(samples, Boxed(tmp_path, left=1))
    (tmp_path / "dataset.yaml").write_text("names: [b, a]\n")
    with pytest.raises(ViceError, match=r"The dataset\.yaml in .* are not those"):
        check_unchanged(samples, Boxed(tmp_path))


def test_changes_are_known_of_both_and_of_one_kind_alone():
    held = {"a": ("1", "2"), "b": ("1", ""), "c": ("pixels:1", "2"), "d": ("1", "2")}
    now = {"a": ("1", "3"), "b": ("2", "4"), "c": ("9", "2")}
    assert changed_images(held, now) == {"images": ["b"], "masks": ["a"]}
    assert named_images({"masks": list("vwxyz")}, ["masks"], 9) == " Changed: 5 of 9 images, such as `v`, `w`, `x`."
    assert named_images({}, ["masks"], 9) == ""
