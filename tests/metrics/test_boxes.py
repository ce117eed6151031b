"""Boxes of maps: against a plain flood fill, scipy's labels and OpenCV's contours, by hand, and at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from torchvice.errors import ViceError
from torchvice.metrics.boxes import best_box_iou, box_iou, held_out_box_accuracy, map_boxes, max_box_accuracy
from torchvice.metrics.thresholds import PAPER_THRESHOLDS

Box = tuple[int, int, int, int]


def flooded(above: np.ndarray) -> list[Box]:
    """The boxes of the components of 8 neighbours, filled pixel by pixel, in the order of their first pixel."""
    left, boxes = {(int(y), int(x)) for y, x in np.argwhere(above)}, []
    for start in sorted(left):
        if start not in left:
            continue
        edge, seen = [start], {start}
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left - seen
            seen |= near
            edge += near
        left -= seen
        ys, xs = zip(*seen, strict=True)
        boxes.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1))
    return boxes


def plain_iou(a: Any, b: Any) -> float:
    """Both boxes' pixels as sets."""
    one, two = ({(x, y) for x in range(r[0], r[2]) for y in range(r[1], r[3])} for r in (a, b))
    return len(one & two) / len(one | two)


def listed(boxes: list[np.ndarray]) -> list[list[Box]]:
    return [[tuple(box) for box in at] for at in boxes]


# Two objects that touch by a corner, one of them with a hole in which another lies:
#   5 5 5 0 0
#   5 0 5 0 0
#   5 5 5 0 0
#   0 0 0 2 2
HAND = np.array([[5, 5, 5, 0, 0], [5, 0, 5, 0, 0], [5, 5, 5, 0, 0], [0, 0, 0, 2, 2]])


def test_boxes_by_hand() -> None:
    assert listed(map_boxes(HAND, [1, 3, 5])) == [[(0, 0, 5, 4)], [(0, 0, 3, 3)], []]
    ring = np.pad(np.pad([[5]], 1), 1, constant_values=5)  # a pixel inside a ring, not touching it
    assert listed(map_boxes(ring, [1])) == [[(0, 0, 5, 5), (2, 2, 3, 3)]]


def test_best_iou_by_hand() -> None:
    # Given the ring's box: at 1 the box has 20 pixels, 9 of them shared; at 3 it is the ring's own.
    np.testing.assert_allclose(best_box_iou(HAND, [[0, 0, 3, 3]], [1, 3, 5]), [9 / 20, 1, 0])
    # The best pair counts, whichever given and drawn box it is.
    two = np.array([[9, 0, 0, 9, 9]])
    np.testing.assert_allclose(best_box_iou(two, [[0, 0, 2, 1], [3, 0, 5, 1]], [1]), [1])
    assert np.isnan(best_box_iou(HAND, [], [1, 3])).all()


@settings(max_examples=150, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.sampled_from([0, 0.1, 0.25, 0.5])),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4)), max_size=3),
)
def test_every_map_as_a_plain_flood_fill(scores: np.ndarray, corners: list[Box]) -> None:
    cuts = [0.0, 0.1, 0.2, 0.3]
    expected = [flooded(scores > np.float32(t)) for t in cuts]
    assert listed(map_boxes(scores, cuts)) == expected
    given_boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    best = best_box_iou(scores, given_boxes, cuts)
    for at, drawn in enumerate(expected):
        plain = [plain_iou(a, b) for a in drawn for b in given_boxes]
        assert best[at] == pytest.approx(max(plain, default=0)) if given_boxes else np.isnan(best[at])


def test_a_map_at_full_size_as_scipy_and_opencv_find_it() -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    cv2 = pytest.importorskip("cv2")
    noise = ndimage.gaussian_filter(np.random.default_rng(1).random((150, 201)), 5)
    scores = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    found = listed(map_boxes(scores))
    for at, t in enumerate(PAPER_THRESHOLDS):
        above = scores > np.float32(t)
        places = ndimage.find_objects(ndimage.label(above, np.ones((3, 3)))[0])
        assert sorted(found[at]) == sorted((x.start, y.start, x.stop, y.stop) for y, x in places)
        contours = cv2.findContours(above.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        outer = [c for c, h in zip(contours[0], contours[1][0], strict=True) if h[3] < 0]
        corners = [cv2.boundingRect(contour) for contour in outer]
        assert sorted(found[at]) == sorted((x, y, x + w, y + h) for x, y, w, h in corners)
    assert max(map(len, found)) > 5


def test_the_edges_of_maps() -> None:
    assert listed(map_boxes(np.zeros((2, 3)), [0, 0.5])) == [[], []]
    assert listed(map_boxes(np.ones((2, 3)), [0, 0.5])) == [[(0, 0, 3, 2)]] * 2
    assert listed(map_boxes([[np.nan, 0, 0]], PAPER_THRESHOLDS[[0, 59]])) == [[(0, 0, 1, 1)]] * 2
    assert listed(map_boxes(np.zeros((0, 3)), [0.5])) == [[]]
    # The last pixel of a row and the first of the next do not touch, nor do a map's last row and its first.
    assert len(map_boxes([[0, 0, 1], [1, 0, 0]], [0.5])[0]) == 2
    assert listed(map_boxes([[1, 0], [0, 0], [0, 1]], [0.2, 0.5])) == [[(0, 0, 1, 1), (1, 2, 2, 3)]] * 2


def test_box_iou_by_hand_and_by_pixels() -> None:
    assert box_iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2]]).tolist() == [[1, 1 / 7, 0]]
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 6, (2, 8, 2))
    a, b = (np.concatenate([low, low + rng.integers(1, 5, (8, 2))], axis=1) for low in corners)
    np.testing.assert_allclose(box_iou(a, b), [[plain_iou(x, y) for y in b] for x in a])
    np.testing.assert_allclose(box_iou(a, b), box_iou(b, a).T)
    torchvision = pytest.importorskip("torchvision.ops")
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(
        box_iou(a, b), torchvision.box_iou(torch.tensor(a).float(), torch.tensor(b).float()), 1e-6
    )
    assert box_iou([], b).shape == (0, 8)
    with pytest.raises(ViceError, match="`boxes` must have 2 dimensions"):
        best_box_iou(HAND, None)
    with pytest.raises(ViceError, match="left, top, right and bottom"):
        box_iou([[1, 1, 1, 3]], b)


def test_accuracy_by_hand() -> None:
    best = [[0.2, 0.4, 0.9], [0.5, 0.3, 0.0], [0.75, 0.31, 0.1], [np.nan] * 3]
    found = max_box_accuracy(best)
    # >= 0.3: two of three pairs at the first threshold, all three at the second; >= 0.5: two at the first;
    # >= 0.7: one at the first and one at the third.
    np.testing.assert_allclose(found.accuracy, [1, 2 / 3, 1 / 3])
    assert (found.chosen.tolist(), found.n, found.undefined) == ([1, 0, 0], 3, 1)
    assert found.mean == pytest.approx(2 / 3)
    held = held_out_box_accuracy(best, [0, 1, 1, 1], (0.3,))
    # Fold 1 chooses the first threshold, at which pair 0 reaches 0.2; pair 0 chooses the second, at which both do.
    np.testing.assert_allclose(held.accuracy, [2 / 3])
    assert held.chosen[0, :3].tolist() == [0, 1, 1]


def test_held_out_as_a_plain_loop_and_never_better() -> None:
    rng = np.random.default_rng(3)
    best, folds = rng.random((60, 12)), rng.integers(0, 5, 60)
    held = held_out_box_accuracy(best, folds)
    for d, delta in enumerate((0.3, 0.5, 0.7)):
        hits = 0
        for pair in range(60):
            shares = [np.mean([best[o, t] >= delta for o in range(60) if folds[o] != folds[pair]]) for t in range(12)]
            hits += best[pair, int(np.argmax(shares))] >= delta
        assert held.accuracy[d] == pytest.approx(hits / 60)
    assert (held.accuracy <= max_box_accuracy(best).accuracy).all()
    alone = held_out_box_accuracy(best, np.zeros(60, int))
    np.testing.assert_allclose(alone.accuracy, max_box_accuracy(best).accuracy)


@pytest.mark.parametrize("best", [np.zeros((0, 4)), np.full((2, 4), np.nan)])
def test_without_a_pair_nothing_is_defined(best: np.ndarray) -> None:
    for found in (max_box_accuracy(best), held_out_box_accuracy(best, np.zeros(len(best), int))):
        assert np.isnan(found.accuracy).all()
        assert np.isnan(found.mean)
        assert (found.n, found.undefined) == (0, len(best))


def test_wrong_deltas() -> None:
    with pytest.raises(ViceError, match="deltas"):
        max_box_accuracy([[0.5]], (0.0,))
