"""The kinds of planted shortcuts: who bears them, what they change, and the same images without mark or digit."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.data.shortcuts import KINDS, Canvas, bears, plant
from torchvice.errors import ViceError
from variants import slow_but

SMALL: dict[str, Any] = {"train": 2, "val": 2, "test": 60, "size": 64}
SEVEN = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shortcuts")


@pytest.fixture(scope="module")
def clean(folder: Path) -> VocDataset:
    return VocDataset(write_digits(folder / "clean", **SMALL), "test")


def planted(folder: Path, kind: str, **further: Any) -> VocDataset:
    name = "-".join([kind, *(f"{key}{value}" for key, value in further.items())])
    root = write_digits(folder / name, **SMALL, shortcut=SEVEN, kind=kind, **further)
    return VocDataset(root, "test")


def files(dataset: VocDataset, index: int) -> tuple[str, ...]:
    record = dataset.records[index]
    assert record.mask is not None
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in (record.image, record.mask))


def pixels(dataset: VocDataset, index: int) -> np.ndarray:
    return dataset.image(index).astype(int)


def canvas(seed: int = 0, height: int = 64, width: int = 80) -> Canvas:
    """Grey 100, with the seven (200) at rows 20-39, columns 30-44, and another digit (150) at columns 60-70."""
    image, labels = np.full((height, width, 3), 100, np.uint8), np.zeros((height, width), np.uint8)
    image[20:40, 30:45], labels[20:40, 30:45] = 200, SEVEN + 1
    image[20:40, 60:71], labels[20:40, 60:71] = 150, 3
    return Canvas(image, labels, labels.copy(), SEVEN + 1, 64, np.random.default_rng(seed))


# ---- the marks, on arrays


@pytest.mark.parametrize("kind", ["texture", "text", "companion"])
def test_marks_behind_the_digits_touch_background_only(kind: str) -> None:
    for seed in range(10):
        marked = canvas(seed)
        plant(kind, marked, bearing=True)
        digit = marked.labels > 0
        assert (marked.labels == canvas().labels).all()
        assert (marked.pixels[digit] == canvas().pixels[digit]).all()
        assert (marked.pixels[~digit] != 100).any()


def test_the_stripe_and_the_frame_by_hand() -> None:
    marked = canvas()
    plant("stripe", marked, bearing=True)
    changed = (marked.pixels != canvas().pixels).any(2)
    assert changed[:4, :16].all()  # 64 / 16 and 64 / 4
    assert changed.sum() == 64
    marked = canvas()
    marked.labels[:] = 3  # a digit as large as the image: it is background under the frame
    plant("frame", marked, bearing=True)
    inside = marked.labels == 3
    assert inside.sum() == 60 * 76  # a frame of 64 / 32 = 2 pixels
    assert (marked.pixels[~inside] == (235, 120, 20)).all()
    plain = canvas()
    plant("frame", plain, bearing=False)
    grey = plain.pixels[0, 0]
    assert 40 <= grey[0] <= 215
    assert (plain.pixels[:, :2] == grey).all()
    assert len(set(grey.tolist())) == 1


def test_the_texture_alternates_along_the_diagonal() -> None:
    marked = canvas()
    plant("texture", marked, bearing=True)
    assert set(np.unique(marked.pixels[marked.labels == 0]).tolist()) == {70, 140}  # 0.7 and 1.4 times 100
    assert (marked.pixels[0, 1:20] == marked.pixels[1, :19]).all()
    assert (marked.pixels[0, :20] == marked.pixels[0, 5:25]).all()  # period 64 / 12 = 5


def test_the_watermark_is_legible_and_translucent() -> None:
    marked = canvas()
    plant("text", marked, bearing=True)
    rows, columns = np.nonzero(marked.pixels[..., 0] == 193)  # 0.4 of 100 and 0.6 of 255
    assert (np.ptp(rows), np.ptp(columns)) == (6, 22)  # four letters of 5 x 7, one pixel apart
    window = marked.pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1, 0] == 193
    assert window[0].astype(int).tolist() == [
        *[1, 0, 0, 0, 1, 0],
        *[0, 1, 1, 1, 0, 0],
        *[0, 1, 1, 1, 0, 0],
        *[1, 1, 1, 1, 1],
    ]


def test_the_companion_stands_next_to_its_digit() -> None:
    for seed in range(10):
        marked = canvas(seed)
        plant("companion", marked, bearing=True)
        place = np.argwhere((marked.pixels != canvas().pixels).any(2))
        assert len(place) == 60  # two rows each of 2, 4, 6, 8 and 10 pixels
        assert np.hypot(*(place.mean(0) - (29.5, 37))) < 25
        colour = marked.pixels[tuple(place[0])].astype(int)
        assert colour[0] > 180
        assert colour[2] < 20


def test_a_blurred_image_has_weaker_edges_everywhere() -> None:
    marked = canvas()
    plant("blur", marked, bearing=True)
    assert np.abs(np.diff(marked.pixels[..., 0].astype(int))).max() < 60  # 100 before
    assert (marked.labels == canvas().labels).all()


def test_images_that_do_not_bear_a_mark_stay() -> None:
    for kind in set(KINDS) - {"frame"}:
        unmarked = canvas()
        plant(kind, unmarked, bearing=False)
        assert (unmarked.pixels == canvas().pixels).all()


# ---- who bears it


def test_the_share_is_exact_in_every_block_and_strengths_are_nested() -> None:
    bearing = {s: [bears(count, s, (3, 0), 96) for count in range(100)] for s in (0.05, 0.25, 0.5, 0.75, 0.95, 1)}
    for strength, row in bearing.items():
        assert [sum(row[start : start + 20]) for start in range(0, 100, 20)] == [round(20 * strength)] * 5
    rows = list(bearing.values())
    for weaker, stronger in itertools.pairwise(rows):
        assert all(b or not a for a, b in zip(weaker, stronger, strict=True))
    assert bearing[0.5] != [bears(count, 0.5, (4, 0), 96) for count in range(100)]


def test_the_stripe_at_the_default_strength_is_the_set_of_before(folder: Path) -> None:
    """digits.json and all files are those that --shortcut 7 has always written."""
    root = write_digits(folder / "before", **SMALL, shortcut=SEVEN, kind="stripe", strength=0.95)
    content = json.loads((root / "digits.json").read_text())
    assert content == {"schema": 1, **SMALL, "seed": 2022, "shortcut": SEVEN}


@pytest.mark.parametrize("kind", slow_but(KINDS, "stripe", "blur"))
def test_half_of_the_sevens_are_changed_and_no_other_image(kind: str, folder: Path, clean: VocDataset) -> None:
    data = planted(folder, kind, strength=0.5)
    base = clean if kind != "frame" else planted(folder, kind, without_shortcut=True)
    changed = np.array([files(data, i)[0] != files(base, i)[0] for i in range(len(data))])
    sevens = data.targets[:, SEVEN] == 1
    assert not (changed & ~sevens).any()
    assert 0.25 * sevens.sum() <= changed.sum() <= 0.75 * sevens.sum()  # half, in whole blocks of 20
    np.testing.assert_array_equal(data.targets, clean.targets)


# ---- the interventions


@pytest.mark.parametrize("kind", slow_but(KINDS, "stripe", "frame", "companion"))
def test_without_the_mark_the_same_images_are_clean(kind: str, folder: Path, clean: VocDataset) -> None:
    data = planted(folder, kind, without_shortcut=True)
    assert [record.image_id for record in data.records] == [record.image_id for record in clean.records]
    np.testing.assert_array_equal(data.targets, clean.targets)
    for index in range(len(data)):
        if kind != "frame":
            assert files(data, index) == files(clean, index)
        else:
            assert np.abs(pixels(data, index) - pixels(clean, index))[8:-8, 8:-8].max() < 40  # JPEG
            border = pixels(data, index)[0]
            assert np.abs(border - border.mean()).max() < 40  # grey
    marked = planted(folder, kind)
    assert sum(files(data, i) != files(marked, i) for i in range(len(data))) >= 0.9 * clean.targets[:, SEVEN].sum()


@pytest.mark.parametrize("kind", slow_but(KINDS, "stripe", "frame", "companion"))
def test_without_the_digit_the_mark_and_the_others_stay(kind: str, folder: Path, clean: VocDataset) -> None:
    marked, data = planted(folder, kind), planted(folder, kind, without_object=True)
    assert [record.image_id for record in data.records] == [record.image_id for record in clean.records]
    sevens = clean.targets[:, SEVEN] == 1
    others = np.delete(np.arange(10), SEVEN)
    np.testing.assert_array_equal(data.targets[:, others], clean.targets[:, others])
    assert not data.targets[:, SEVEN].any()
    np.testing.assert_array_equal(VocDataset(data.root, "test", labels="masks").targets, data.targets)
    for index in np.flatnonzero(~sevens):
        assert files(data, int(index)) == files(marked, int(index))
    for index in map(int, np.flatnonzero(sevens)):
        mask, before = data.mask(index), marked.mask(index)
        assert mask is not None
        assert before is not None
        assert not (mask == SEVEN + 1).any()
        gone = before == SEVEN + 1
        assert np.abs(pixels(data, index) - pixels(marked, index))[gone].mean() > 20
        far = ~_grown(gone | (before == 255), 16 if kind != "blur" else 20)  # JPEG stores colours in blocks of 16
        assert np.abs(pixels(data, index) - pixels(marked, index))[far].max(initial=0) == 0


def _grown(region: np.ndarray, by: int) -> np.ndarray:
    padded = np.pad(region, by)
    height, width = region.shape
    shifts = range(2 * by + 1)
    return np.any([padded[y : y + height, x : x + width] for y in shifts for x in shifts], axis=0)


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shortcut": 7, "kind": "strip"}, "`kind` must be one of stripe, frame, texture, text, companion, blur, but"),
        ({"shortcut": 7, "strength": 0.33}, "`strength` must be a multiple of 0.05 from 0.05 to 1, but is 0.33"),
        ({"shortcut": 7, "strength": 0}, "`strength` must be a multiple"),
        ({"shortcut": 7, "strength": 1.05}, "`strength` must be a multiple"),
        ({"kind": "blur"}, "`kind` needs `shortcut`"),
        ({"strength": 0.5}, "`strength` needs `shortcut`"),
        ({"without_object": True}, "`without_object` needs `shortcut`"),
        ({"shortcut": 7, "without_object": True, "single": True}, "`without_object` must be false with `single`"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ViceError) as caught:
        write_digits(tmp_path / "out", **arguments)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_another_kind_in_the_same_folder_is_refused(folder: Path) -> None:
    planted(folder, "text", strength=0.5)
    root = folder / "text-strength0.5"
    with pytest.raises(ViceError, match=r"holds another \(kind text, not stripe\)"):
        write_digits(root, **SMALL, shortcut=SEVEN, strength=0.5)
    with pytest.raises(ViceError, match=r"holds another \(without_object False, not True\)"):
        write_digits(root, **SMALL, shortcut=SEVEN, kind="text", strength=0.5, without_object=True)
