"""Overlap counting: against a plain loop, against the reference numbers, and at the edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.metrics import thresholds
from torchvice.metrics.iou import (
    CurveCounter,
    curve_from_counts,
    image_ji,
    image_ji_from_counts,
    iou_curve,
    overlap_ji,
    pair_iou,
)
from torchvice.metrics.overlap import competing_overlap, label_overlap, own_histograms
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, as_cuts

REFERENCE = Path(__file__).parents[1] / "reference"


def plain_counts(
    maps: Any, classes: list[int], planes: dict[int, np.ndarray], counted: np.ndarray, threshold: float
) -> dict[int, tuple[int, int, int]]:
    """Per label (mask pixels, predicted, intersection) at one threshold, pixel by pixel."""
    bare = ~np.any(list(planes.values()), axis=0) if planes else np.ones_like(counted)
    truth = {0: bare, **planes}
    counts = {label: [0, 0, 0] for label in {0, *planes, *(c + 1 for c in classes)}}
    for y, x in np.argwhere(counted):
        best, label = np.float32(threshold), 0
        for c in sorted(classes):
            score = np.float32(maps[classes.index(c)][y][x])
            if score > best or (np.isnan(score) and not np.isnan(best)):
                best, label = score, c + 1
        counts[label][1] += 1
        counts[label][2] += bool(truth[label][y, x]) if label in truth else 0
        for other, plane in truth.items():
            counts[other][0] += bool(plane[y, x])
    return {label: (row[0], row[1], row[2]) for label, row in counts.items()}


def assert_counts(overlap: Any, place: int, expected: dict[int, tuple[int, int, int]]) -> None:
    found = {
        int(label): (int(m), int(p), int(i))
        for label, m, p, i in zip(
            overlap.labels,
            overlap.mask_pixels,
            overlap.predicted[:, place],
            overlap.intersection[:, place],
            strict=True,
        )
    }
    # A label of no count at all may be listed or not.
    assert {k: v for k, v in found.items() if any(v)} == {k: v for k, v in expected.items() if any(v)}


def scene(seed: int, maps: int = 3, size: tuple[int, int] = (9, 11)) -> tuple[np.ndarray, list[int], np.ndarray]:
    rng = np.random.default_rng(seed)
    # Hundredths, so that ties with thresholds and between classes are common; some values lie outside [0, 1].
    values = (rng.integers(-10, 130, (maps, *size)) / 100).astype(np.float32)
    classes = rng.permutation(20)[:maps].tolist()
    labels = [0, *(c + 1 for c in classes[1:]), 20, 255]
    return values, classes, rng.choice(np.array(labels, np.uint8), size)


def planes_of(mask: np.ndarray, void: int = 255) -> dict[int, np.ndarray]:
    return {int(v): mask == v for v in np.unique(mask) if v not in (0, void)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("maps", [0, 1, 2, 5])
def test_counts_equal_the_plain_loop(seed: int, maps: int) -> None:
    values, classes, mask = scene(seed, maps)
    overlap = competing_overlap(values, classes, mask)
    assert (np.diff(overlap.labels) > 0).all()
    assert overlap.labels[0] == 0
    for place in (0, 1, 10, 37, 59):
        expected = plain_counts(values, classes, planes_of(mask), mask != 255, PAPER_THRESHOLDS[place])
        assert_counts(overlap, place, expected)


@pytest.mark.parametrize(
    "cuts",
    [
        [0.3],
        np.delete(np.arange(-9, 129), [4, 40, 41, 90]) / 100,  # no grid; ties in every other pixel
        np.arange(5, 40) / 50,
        np.arange(-20, 0) / 7,
    ],
)
def test_any_rising_thresholds_will_do(cuts: Any) -> None:
    values, classes, mask = scene(5)
    overlap = competing_overlap(values, classes, mask, cuts)
    for place, threshold in enumerate(cuts):
        assert_counts(overlap, place, plain_counts(values, classes, planes_of(mask), mask != 255, threshold))


@pytest.mark.parametrize("cuts", [PAPER_THRESHOLDS, np.arange(1000) / 1000, np.linspace(0, 1, 256), np.arange(60) / 64])
def test_binning_is_exact_around_every_threshold(cuts: np.ndarray) -> None:
    table = cuts.astype(np.float32)
    near = [table, np.nextafter(table, np.float32(-9)), np.nextafter(table, np.float32(9))]
    extreme = np.array([-np.inf, -3e38, -1, -0.0, 3e38, np.inf], np.float32)
    scores = np.concatenate([*near, extreme, np.random.default_rng(0).random(5000, np.float32)])
    mask = np.zeros((len(scores), 1), np.uint8)
    overlap = competing_overlap(scores.reshape(1, -1, 1), [0], mask, cuts)
    assert overlap.predicted[1].tolist() == [(scores > cut).sum() for cut in table]
    assert as_cuts(cuts).grid is not None  # the arithmetic was used, not the search


def test_sorting_and_counting_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    index = rng.integers(0, 300, 150_000).astype(np.uint16)
    expected = [(index < value).sum() for value in range(401)]
    for fast in (True, False):
        monkeypatch.setattr(thresholds, "_sorting_is_fast", lambda fast=fast: fast)
        assert thresholds.cumulative(index.copy(), 400).tolist() == expected
    most = (1 << 16) - 1
    monkeypatch.setattr(thresholds, "_sorting_is_fast", lambda: True)
    assert thresholds.cumulative(np.arange(most).astype(np.uint16), most).tolist() == list(range(most + 1))
    assert thresholds.smallest(most) is np.uint16
    assert thresholds.smallest(most + 1) is np.int32


def test_an_image_of_several_blocks() -> None:
    values, classes, mask = scene(2, 3, (400, 500))
    assert len(thresholds.blocks(mask.size)) == 2
    whole = competing_overlap(values, classes, mask)
    halves = [competing_overlap(values[:, rows], classes, mask[rows]) for rows in (slice(0, 7), slice(7, 400))]
    for name in ("mask_pixels", "predicted", "intersection"):
        assert (getattr(whole, name) == sum(getattr(half, name) for half in halves)).all()


def test_ties_go_to_background_and_to_the_lowest_class() -> None:
    # float32(0.3) is above 0.3, but the comparison is in float32: a tie, and so background.
    mask = np.array([[4, 8]], np.uint8)
    maps = np.array([[[0.5, 0.3]], [[0.5, 0.3]]], np.float32)
    overlap = competing_overlap(maps, [7, 3], mask, [0.2, 0.3])  # classes unsorted: 7 comes first
    assert overlap.labels.tolist() == [0, 4, 8]
    assert overlap.predicted.tolist() == [[0, 1], [2, 1], [0, 0]]
    assert overlap.intersection.tolist() == [[0, 0], [1, 1], [0, 0]]


def test_nan_wins_at_every_threshold_and_is_counted() -> None:
    maps = np.array([[[0.9, np.inf]], [[np.nan, np.nan]], [[np.nan, 0.0]]])
    overlap = competing_overlap(maps, [0, 1, 2], np.zeros((1, 2), np.uint8))
    assert (overlap.predicted[2] == 2).all()
    assert overlap.nan_pixels == 2


@pytest.mark.parametrize("seed", range(3))
def test_boolean_planes_that_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, classes, _ = scene(seed)
    stack = rng.random((20, 9, 11)) < 0.2
    stack[10:] = False
    void = rng.random((9, 11)) < 0.2
    overlap = competing_overlap(values, classes, stack, void=void)
    planes = {label + 1: plane for label, plane in enumerate(stack)}
    for place in (0, 15, 59):
        expected = plain_counts(values, classes, planes, ~void, PAPER_THRESHOLDS[place])
        assert_counts(overlap, place, expected)
    without = competing_overlap(values, classes, stack)
    assert without.predicted[:, 0].sum() == stack[0].size


def test_planes_that_do_not_overlap_equal_an_index_mask() -> None:
    values, classes, mask = scene(3)
    stack = np.stack([mask == label for label in range(1, 21)])
    one = competing_overlap(values, classes, mask)
    other = competing_overlap(values, classes, stack, void=mask == 255)
    for name in ("labels", "mask_pixels", "predicted", "intersection"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_more_than_254_classes() -> None:
    values, _, small = scene(4)
    classes = [5, 1000, 70_000]
    mask = np.where(small == 255, -1, small.astype(np.int32) * 3500 + 1)
    overlap = competing_overlap(values, classes, mask, void=-1)
    expected = plain_counts(values, classes, planes_of(mask, -1), mask != -1, 0.25)
    assert_counts(overlap, 25, expected)
    assert overlap.labels[-1] == 70_001


def test_split_and_joined_images_add_up() -> None:
    values, classes, mask = scene(6)
    overlap = competing_overlap(values, classes, mask)
    assert (overlap.predicted.sum(axis=0) == overlap.mask_pixels.sum()).all()  # each counted pixel bears one label
    assert (np.diff(overlap.predicted[0]) >= 0).all()  # background grows with the threshold
    assert (overlap.intersection <= np.minimum(overlap.predicted, overlap.mask_pixels[:, None])).all()


def test_inputs_are_not_written_to() -> None:
    values, classes, mask = scene(7)
    copies = values.copy(), list(classes), mask.copy()
    competing_overlap(values, classes, mask)
    own_histograms(values, classes, mask)
    assert (values == copies[0]).all()
    assert classes == copies[1]
    assert (mask == copies[2]).all()


def test_torch_tensors_give_the_same() -> None:
    torch = pytest.importorskip("torch")
    values, classes, mask = scene(8)
    one = competing_overlap(values, classes, mask)
    other = competing_overlap(torch.tensor(values), torch.tensor(classes), torch.tensor(mask))
    assert one.intersection.tolist() == other.intersection.tolist()


def test_label_maps() -> None:
    _, _, mask = scene(9)
    prediction = np.roll(mask, 3)  # its own void bears no label, and is missed
    overlap = label_overlap(prediction, mask)
    counted = mask != 255
    for label, pixels, predicted, shared in zip(
        overlap.labels, overlap.mask_pixels, overlap.predicted[:, 0], overlap.intersection[:, 0], strict=True
    ):
        assert pixels == (mask == label).sum()
        assert predicted == ((prediction == label) & counted).sum()
        assert shared == ((prediction == label) & (mask == label)).sum()
    assert 255 not in overlap.labels
    assert label_overlap(mask, mask).intersection.sum() == counted.sum()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bins", [256, 10])
def test_own_histograms_equal_numpy(bins: int) -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((3, 40, 50), np.float32) * 1.2 - 0.1
    maps[0, 0, :3] = [0.0, 1.0, 0.5]
    maps[1, 5:9] = np.nan
    mask = rng.choice(np.array([0, 3, 5, 255], np.uint8), (40, 50))
    inside, outside = own_histograms(maps, [4, 9, 2], mask, bins)
    for row, (plane, label) in enumerate(zip(maps, (5, 10, 3), strict=True)):
        for found, where in ((inside[row], mask == label), (outside[row], (mask != label) & (mask != 255))):
            kept = plane[where & ~np.isnan(plane)]
            place = np.clip(np.floor(kept * np.float32(bins)), 0, bins - 1).astype(int)
            assert found.tolist() == np.bincount(place, minlength=bins).tolist()
    stack = np.stack([mask == label for label in range(1, 11)])
    assert (own_histograms(maps, [4, 9, 2], stack, bins, void=mask == 255)[0] == inside).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"maps": np.zeros((2, 9, 10))}, "mask's size"),
        ({"classes": [3]}, "one length"),
        ({"classes": [3, 3]}, "without duplicates"),
        ({"classes": [3, -1]}, "0 or more"),
        ({"mask": np.zeros((9, 11))}, "integers"),
        ({"mask": np.full((9, 11), -1)}, "void=-1"),
        ({"mask": np.zeros((2, 9, 11), bool)}, "below 2"),
        ({"mask": np.zeros(9, int)}, "2 dimensions"),
        ({"thresholds": []}, "rise"),
        ({"thresholds": [0.2, 0.1]}, "rise"),
        ({"thresholds": [0.2, np.nan]}, "rise"),
    ],
)
def test_wrong_input_is_told(change: dict[str, Any], words: str) -> None:
    given = {"maps": np.zeros((2, 9, 11)), "classes": [3, 1], "mask": np.zeros((9, 11), int), **change}
    with pytest.raises(ViceError, match=words):
        competing_overlap(**given)


def load(name: str) -> tuple[Any, list[str]]:
    reference = np.load(REFERENCE / name)
    return reference, [str(image) for image in reference["names"]]


@pytest.mark.parametrize("name", ["A_B_curve_main.npz", "A_B_curve_nan.npz", "A_curve_plateau.npz"])
def test_reference_curve(name: str) -> None:
    reference, names = load(name)
    columns = [[reference[f"{image}/{field}"] for image in names] for field in ("cams", "keys", "gt")]
    curve = iou_curve(columns[0], columns[1], columns[2], 20)
    np.testing.assert_allclose(curve.class_iou, reference["class_iou_percent"] / 100, rtol=0, atol=1e-9)
    np.testing.assert_allclose(curve.mean_iou, reference["miou_percent"] / 100, rtol=0, atol=1e-9)
    assert curve.thresholds.tolist() == reference["thresholds"].tolist()
    assert curve.best_threshold == reference["best_threshold"]
    assert curve.best_mean_iou == pytest.approx(reference["best_miou_percent"] / 100, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "threshold"), [("A_B_curve_main.npz", 0.1), ("A_B_curve_main.npz", 0.3), ("A_B_curve_nan.npz", 0.1)]
)
def test_reference_image_scores(name: str, threshold: float) -> None:
    reference, _ = load(name)
    names = reference[f"perimage_t{threshold}/names_sorted"]
    for place, image in enumerate(names):
        maps, classes, mask = (reference[f"{image}/{field}"] for field in ("cams", "keys", "gt"))
        expected = reference[f"perimage_t{threshold}/miou"][place]
        np.testing.assert_allclose(image_ji(maps, classes, mask, threshold), expected, rtol=0, atol=1e-9)
        counts = competing_overlap(maps, classes, mask, [threshold])
        shared = counts.intersection[:, 0]
        iou = shared / np.maximum(counts.predicted[:, 0] + counts.mask_pixels - shared, 1)
        listed = reference[f"perimage_t{threshold}/miou_exist"][place]
        np.testing.assert_allclose(iou[iou != 0], listed[~np.isnan(listed)], rtol=0, atol=1e-9)


def test_reference_label_maps() -> None:
    reference, names = load("A_B_png.npz")
    counter = CurveCounter(20, [np.nan])
    scores = {}
    for image in names:
        overlap = label_overlap(reference[f"{image}/pred"], reference[f"{image}/gt"])
        counter.add(overlap)
        scores[image] = overlap_ji(overlap)[0]
    curve = counter.curve()
    np.testing.assert_allclose(curve.class_iou[0], reference["class_iou_percent"] / 100, rtol=0, atol=1e-9)
    np.testing.assert_allclose(curve.best_mean_iou, reference["miou_percent"] / 100, rtol=0, atol=1e-9)
    listed = [scores[str(image)] for image in reference["perimage/names_sorted"]]
    np.testing.assert_allclose(listed, reference["perimage/miou"], rtol=0, atol=1e-9)


def test_strict_curve_leaves_out_what_never_occurs() -> None:
    # Two thresholds, background and three classes; class 2 has no mask pixel but is predicted, class 3 never is.
    shared = [[4, 2, 0, 0], [6, 1, 0, 0]]
    predicted = [[4, 4, 2, 0], [8, 1, 1, 0]]
    pixels = [6, 4, 0, 0]
    strict = curve_from_counts(shared, predicted, pixels, [0.1, 0.2], "strict")
    # 4 / (4 + 6 - 4) = 2/3 and 2 / (4 + 4 - 2) = 1/3; 6 / 8 and 1 / 4: the mean is 1/2 both times, the first wins.
    np.testing.assert_allclose(strict.class_iou[:, :2], [[2 / 3, 1 / 3], [3 / 4, 1 / 4]], rtol=1e-15)
    assert np.isnan(strict.class_iou[:, 2:]).all()
    assert (strict.best_threshold, strict.best_mean_iou) == (0.1, 0.5)
    paper = curve_from_counts(shared, predicted, pixels, [0.1, 0.2], "paper")
    np.testing.assert_allclose(paper.mean_iou, [0.25, 0.25], rtol=0, atol=1e-10)
    empty = curve_from_counts(np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(3), [0.1], "strict")
    assert np.isnan(empty.best_mean_iou)
    assert np.isnan(empty.best_threshold)


def test_strict_ji_counts_a_missed_object_as_zero() -> None:
    mask = np.array([[1, 1, 2, 0]], np.uint8)
    maps = np.array([[[0.9, 0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 0.9]]])  # half of class 0; class 1 next to its object
    # Paper: class 0 has 1/2; class 1 and background (mask: pixel 3; predicted: pixels 1, 2) have 0 and leave the mean.
    assert image_ji(maps, [0, 1], mask) == pytest.approx(0.5, abs=1e-9)
    assert image_ji(maps, [0, 1], mask, protocol="strict") == 0.25
    assert np.isnan(image_ji(maps, [0, 1], np.zeros_like(mask), protocol="strict"))
    assert np.isnan(image_ji(maps, [0, 1], np.full_like(mask, 255)))


def test_table_scores_equal_image_scores() -> None:
    rows: dict[str, list[Any]] = {"intersection": [], "predicted": [], "mask_pixels": [], "index": [], "labels": []}
    expected: dict[str, list[np.ndarray]] = {"paper": [], "strict": []}
    for image in range(5):
        overlap = competing_overlap(*scene(image))
        for name in ("intersection", "predicted", "mask_pixels", "labels"):
            rows[name] += getattr(overlap, name).tolist()
        rows["index"] += [image] * len(overlap.labels)
        for protocol, scores in expected.items():
            scores.append(overlap_ji(overlap, protocol))
    order = np.random.default_rng(0).permutation(len(rows["index"]))
    table = {name: np.array(column)[order] for name, column in rows.items()}
    for protocol, scores in expected.items():
        found = image_ji_from_counts(
            table["intersection"],
            table["predicted"],
            table["mask_pixels"],
            table["index"],
            6,
            table["labels"],
            protocol,
        )
        np.testing.assert_allclose(found[:5], scores, rtol=1e-12)
        assert np.isnan(found[5]).all()  # no row, no score
    column = image_ji_from_counts(
        table["intersection"][:, 10], table["predicted"][:, 10], table["mask_pixels"], table["index"], 5
    )
    np.testing.assert_allclose(column, [scores[10] for scores in expected["paper"]], rtol=1e-12)


def test_pair_iou() -> None:
    # 3 of 4 predicted lie in the mask of 5: 3 / 6. Missed: 0. No such object in the mask: undefined.
    np.testing.assert_array_equal(pair_iou([3, 0, 0], [4, 0, 7], [5, 5, 0]), [0.5, 0.0, np.nan])


def test_counters_merge_and_refuse() -> None:
    parts = [CurveCounter(20), CurveCounter(20)]
    whole = CurveCounter(20)
    for image in range(4):
        overlap = competing_overlap(*scene(image))
        parts[image % 2].add(overlap)
        whole.add(overlap)
    parts[0].merge(parts[1])
    assert parts[0].images == 4
    assert (parts[0].curve().class_iou == whole.curve().class_iou).all()
    with pytest.raises(ViceError, match="same classes"):
        whole.merge(CurveCounter(19))
    before = whole.intersection.copy()
    with pytest.raises(ViceError, match="0 to 20"):
        whole.add(competing_overlap(np.ones((1, 1, 1)), [20], np.zeros((1, 1), int)))
    with pytest.raises(ViceError, match="60 thresholds"):
        whole.add(competing_overlap(np.ones((1, 1, 1)), [2], np.zeros((1, 1), int), [0.1]))
    assert (whole.intersection == before).all()


def test_curve_streams_and_names_the_image() -> None:
    scenes = [scene(image) for image in range(3)]
    held = 0

    def maps() -> Any:
        nonlocal held
        for values, _, _ in scenes:
            held += 1
            yield values

    lists = iou_curve([v for v, _, _ in scenes], [c for _, c, _ in scenes], [m for _, _, m in scenes], 20)
    stream = iou_curve(maps(), (c for _, c, _ in scenes), (m for _, _, m in scenes), 20)
    assert held == 3
    assert (lists.mean_iou == stream.mean_iou).all()
    with pytest.raises(ViceError, match=r"^Image 1: `maps` must have the mask's size"):
        iou_curve([scenes[0][0], np.zeros((3, 2, 2))], [[1, 2, 3]] * 2, [scenes[0][2]] * 2, 20)
    with pytest.raises(ViceError, match="ends after 1"):
        iou_curve([scenes[0][0]], [[1, 2, 3]] * 2, [scenes[0][2]] * 2, 20)
    with pytest.raises(ViceError, match="Did you mean `strict`"):
        iou_curve([], [], [], 20, protocol="strickt")
