"""Views that pad an image or cut an object off: padding is no part of the image, and what is not shown is not replaced.

`crop32` of images of 16 x 32 pixels shows them in the rows 8 to 23, with 8 rows of padding above and below.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_replaced_parts import SIDE, ByColour, Record, Squares, assess, true_rows
from torch.nn import functional

import torchvice
from torchvice.assessment.controls import CONTROLS
from torchvice.assessment.finished import Finished, ViewOutput
from torchvice.assessment.images import Read
from torchvice.assessment.interventions import _Group
from torchvice.assessment.region import Region
from torchvice.data.filling import filled
from torchvice.data.transforms import center_crop, normalise
from torchvice.explain import Choices
from torchvice.metrics.iou import pair_iou
from torchvice.metrics.overlap import competing_overlap
from torchvice.samples.placing import box_of

TOP, ROWS = 8, 16  # where the view shows the image
CROP = Choices(view="crop")


class Wide(Squares):
    """Images of 16 x 32 pixels: a blue square at the left, and the white corner that the network goes by."""

    def __init__(self, n=40, colour=(20, 20, 250)):
        random = np.random.default_rng(0)
        self.records, self.exclusive = [Record(f"s{i}") for i in range(n)], False
        self.targets = np.tile(np.array([0, 0, 1], np.uint8), (n, 1))
        self.images, self.masks = [], []
        for _ in range(n):
            image = random.integers(90, 130, (ROWS, SIDE, 3)).astype(np.uint8)
            mask = np.zeros((ROWS, SIDE), np.uint8)
            y = int(random.integers(0, 5))
            image[y : y + 8, 4:12], mask[y : y + 8, 4:12], image[-4:, -4:] = colour, 3, 255
            self.images.append(image)
            self.masks.append(mask)


class Cut(Squares):
    """Images of 32 x 32 pixels: the object is in a corner; of the first ones a part is in the middle, too."""

    def __init__(self, n=12, middle=6):
        random = np.random.default_rng(0)
        self.records, self.exclusive = [Record(f"s{i:02d}") for i in range(n)], False
        self.targets = np.tile(np.array([0, 0, 1], np.uint8), (n, 1))
        self.images, self.masks = [], []
        for i in range(n):
            image = random.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            image[:6, :6], mask[:6, :6], image[18:21, 18:21] = (20, 20, 250), 3, 255
            if i < middle:
                mask[14:18, 14:18] = 3
            self.images.append(image)
            self.masks.append(mask)


@pytest.fixture
def planes(monkeypatch):
    """What is replaced on the images, by column: [(view of the image, (h, w) bool)]."""
    seen = {}
    before = _Group._measure

    def measure(self, column, pairs, where, how):
        seen.setdefault(column, []).extend((pair, where(pair)) for pair in pairs)
        before(self, column, pairs, where, how)

    monkeypatch.setattr(_Group, "_measure", measure)
    return seen


def test_nothing_in_the_padding_is_replaced(planes, tmp_path):
    treatments = ["object", "background", "patch", "noise", "dilation=2"]
    samples = assess(Wide(), tmp_path / "t", without=treatments, choices=CROP)
    assert {"without_object", "without_background", "with_hole", "peak_covered", "elsewhere_covered"} <= set(planes)
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[TOP : TOP + ROWS] = True
    for column, replaced in planes.items():
        for _, plane in replaced:
            assert not (plane & ~inside).any(), column
            assert plane.any(), column
    for pair, plane in planes["without_background"]:
        assert torch.equal(plane, inside & ~pair.object)
    for pair, plane in planes["elsewhere_covered"]:  # a whole patch off the object, or what another one leaves of it
        assert plane.sum() >= 8
        assert not (plane & pair.object).any()
    rows = true_rows(samples)
    peaks = np.isfinite(rows.peak_y)
    assert peaks.all()
    assert (rows.peak_y > 0.7).all()  # the white corner, not the border to the padding
    assert (rows.peak_x > 0.8).all()
    assert (rows.peak_height == 1).all()


def test_margins_of_a_padded_view_equal_a_plain_loop(tmp_path):
    data, model = Wide(6, (255, 255, 255)), ByColour()  # an object that speaks for the label, as does what continues it
    rows = true_rows(assess(data, tmp_path / "t", without=["object", "background", "dilation=0"], choices=CROP))
    for row in range(len(rows)):
        index = int(rows.image_id[row][1:])
        image = center_crop(normalise(data.image(index), (0, 0, 0), (1, 1, 1)), SIDE)[None]
        planes = []
        for mask in (data.mask(index) == 3, np.ones((ROWS, SIDE), bool)):
            plane = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
            plane[0, 0, TOP : TOP + ROWS] = torch.from_numpy(mask)
            planes.append(plane)
        for column, gone in {"without_object": planes[0], "without_background": planes[1] & ~planes[0]}.items():
            with torch.no_grad():
                expected = model(filled(image, gone, "blur", shown=planes[1]))[0, 2]
            assert getattr(rows, column)[row] == pytest.approx(float(expected), abs=1e-4)
            assert expected > 0


def test_another_image_fills_with_what_the_view_shows_of_it_and_not_with_its_padding(monkeypatch, tmp_path):
    """The images without the class are as high as the view, and padded at the left and the right."""
    data = Wide(6)
    for index in range(3, 6):
        data.targets[index] = 0, 1, 0
        data.images[index] = np.full((SIDE, ROWS, 3), (20, 250, 20), np.uint8)
        data.masks[index] = np.full((SIDE, ROWS), 2, np.uint8)
    strangers = []
    before = _Group._stranger

    def stranger(self, pair):
        strangers.append((pair, before(self, pair)))
        return strangers[-1][1]

    monkeypatch.setattr(_Group, "_stranger", stranger)
    assess(data, tmp_path / "t", without=["object", "filling=background", "dilation=0"], choices=CROP)
    wide = [other for pair, other in strangers if pair.label == 2]
    assert wide
    for other in wide:
        shown = other[:, TOP : TOP + ROWS]
        green = (torch.tensor([20, 250, 20]) / 255)[:, None, None].expand_as(shown)
        torch.testing.assert_close(shown, green, rtol=0, atol=1e-5)
        assert (other[:, :TOP] == 0).all()
        assert (other[:, TOP + ROWS :] == 0).all()


def test_a_map_that_peaks_in_the_padding_peaks_where_it_is_highest_in_the_image(tmp_path, monkeypatch):
    heights = torch.zeros(SIDE, SIDE)
    heights[:, 20] = torch.arange(SIDE, 0, -1)  # from the top of the padding downwards
    before = _Group._patches

    def patches(self, found):
        drawn = np.broadcast_to(heights.numpy() / SIDE, (1, SIDE, SIDE)).copy()
        self.outputs = {position: replace(one, full=lambda *_: drawn) for position, one in self.outputs.items()}
        before(self, found)

    monkeypatch.setattr(_Group, "_patches", patches)
    rows = true_rows(assess(Wide(6), tmp_path / "t", without=["object", "patch", "dilation=0"], choices=CROP))
    side = SIDE // 8
    # The highest patch of the image is the first one below the padding; of equal means the first.
    assert rows.peak_y == pytest.approx((side // 2 + 0.5) / ROWS)
    assert rows.peak_x == pytest.approx((20 - side + 1 + side // 2 + 0.5) / SIDE)
    assert rows.peak_height == pytest.approx(1)  # of what the view shows of the image


def test_an_object_that_the_view_does_not_show_has_no_measurement_and_is_counted(planes, tmp_path):
    samples = assess(
        Cut(), tmp_path / "t", view_size=12, choices=CROP, without=["object", "background", "patch", "dilation=0"]
    )
    rows = true_rows(samples)
    shown = rows.image_id < "s06"
    for column in ("without_object", "without_background", "with_hole", "peak_y", "peak_covered"):
        assert np.isnan(getattr(rows, column)[~shown]).all(), column
    assert np.isfinite(rows.without_object[shown]).all()
    assert all(plane.any() for replaced in planes.values() for _, plane in replaced)
    found = torchvice.measure(samples, replicates=100)
    assert found.verdict.without_object["pairs"] == 6
    assert found.classes[2].pairs == 12
    assert found.notes["without"] == (
        "Objects outside the view: of 6 of 12 labels the view shows no pixel of the object. Nothing is replaced, and "
        "these labels are left out."
    )
    assert samples.manifest["finished"]


def test_a_hole_of_no_pixels_has_no_room(planes, tmp_path):
    """The partner's object is outside the view."""
    samples = assess(Cut(8, 1), tmp_path / "t", view_size=12, choices=CROP, without=["object", "dilation=0"])
    rows = true_rows(samples)
    assert np.isfinite(rows.without_object).sum() == 1
    assert np.isnan(rows.with_hole).all()
    assert not planes["with_hole"]


def test_ordinary_views_have_no_note_of_objects_outside(tmp_path):
    samples = assess(Squares(6), tmp_path / "t", without=["object", "background"])
    assert "without" not in torchvice.measure(samples, replicates=0).notes


def finished(view, **choices):
    made = Finished()
    made.choices, made.side, made.settings = Choices(**choices), 32, {"view": view}
    return made


@pytest.mark.parametrize("how", ["max", "minmax", "percentile"])
@pytest.mark.parametrize(("view", "size"), [("crop32", (16, 32)), ("long32-crop32", (30, 60)), ("crop32", (21, 19))])
def test_maps_are_normalised_where_the_view_shows_the_image(view, size, how):
    random = np.random.default_rng(0)
    low = torch.from_numpy(random.random((2, 8, 8)).astype(np.float32) ** 3)
    low[0, 0] = 9  # in the padding
    top, left, height, width = box_of(view, size)
    assert top < 0
    large = functional.interpolate(low[None], (height, width), mode="bilinear", align_corners=False)[0].numpy()
    whole = np.zeros((2, *size), np.float32)
    for y in range(size[0]):
        for x in range(size[1]):
            if 0 <= y - top < height and 0 <= x - left < width:
                whole[:, y, x] = large[:, y - top, x - left]
    expected = []
    for plane in whole:
        low_end = plane.min() if how == "minmax" else 0.0
        high_end = np.quantile(plane, 0.99) if how == "percentile" else plane.max()
        expected.append(np.clip((plane - low_end) / (high_end - low_end), 0, 1))
    np.testing.assert_allclose(finished(view, normalisation=how).finished([low], size), expected, atol=1e-5)


def test_maps_that_are_normalised_first_leave_out_the_cells_of_padding():
    low = torch.zeros(1, 4, 4)
    low[0, 0, 1], low[0, 1, 2] = 9.0, 3.0  # the first row of cells is padding, the second shows the image
    full = finished("crop32", order="normalise-first").finished([low], (16, 32))[0]
    expected = torch.zeros(1, 1, 4, 4)
    expected[0, 0, 1, 2] = 1.0
    large = functional.interpolate(expected, (32, 32), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(full, large[8:24].numpy(), atol=1e-6)


@pytest.mark.parametrize("order", ["resize-first", "normalise-first", "normalise-twice-via-view"])
def test_without_padding_a_map_is_normalised_whole(order):
    low = torch.rand(2, 7, 7, generator=torch.Generator().manual_seed(0))
    large = finished("warp32", order=order).finished([low], (32, 32))  # of what is shown
    for size in ((32, 32), (40, 50)):
        full = finished("crop32", order=order).finished([low], size)
        top, left = ((length - 32) // 2 for length in size)
        np.testing.assert_array_equal(full[:, top : top + 32, left : left + 32], large)
        assert full.sum() == pytest.approx(large.sum())


class Headline:
    def __init__(self, view):
        self.settings = {"view": view}


def shuffled_iou(view, own, other):
    """IoU of an image's perfect map with an object that lies at the same place of another image."""
    low = np.zeros((1, 56, 56), np.float32)
    top, left, height, width = box_of(view, own) or (0, 0, *own)
    for row in range(56):
        for column in range(56):
            y, x = (row + 0.5) / 56 * height + top, (column + 0.5) / 56 * width + left
            low[0, row, column] = own[0] / 4 <= y < 3 * own[0] / 4 and 0 <= x < own[1] / 2
    mask = np.zeros(other, np.uint8)
    mask[other[0] // 4 : 3 * other[0] // 4, : other[1] // 2] = 1
    made = finished(view)
    output = ViewOutput(
        np.zeros(1, np.float32), [0], [low[0]], ["ok"], lambda size: made.finished([torch.from_numpy(low)], size)
    )
    read = Read(0, np.zeros((*own, 3), np.uint8), None, {0: Region(other, mask)})
    (single,) = CONTROLS["shuffled"].make(Headline(view), "shuffled").made(read, output, [0])
    counts = competing_overlap(single.full[None], [0], mask, [0.5])
    return float(pair_iou(counts.intersection[1], counts.predicted[1], counts.mask_pixels[1])[0])


@pytest.mark.parametrize("view", ["long224-crop224", "crop224", "warp224"])
@pytest.mark.parametrize("other", [(100, 200), (200, 100), (60, 210)])
def test_the_shuffled_map_keeps_its_place_in_an_image_of_another_shape(view, other):
    assert shuffled_iou(view, (100, 200), other) > 0.9


def test_where_no_view_is_padded_the_shuffled_map_lies_where_the_crop_of_the_other_image_does():
    made = finished("crop32")
    low = torch.rand(1, 7, 7)
    output = ViewOutput(np.zeros(1), [0], [low[0].numpy()], ["ok"], lambda size: made.finished([low], size))
    partner = Region((50, 34), np.ones((50, 34), np.uint8))
    read = Read(0, np.zeros((40, 60, 3), np.uint8), None, {0: partner})
    (single,) = CONTROLS["shuffled"].make(Headline("crop32"), "shuffled").made(read, output, [0])
    np.testing.assert_array_equal(single.full, made.finished([low], (50, 34))[0])
