"""Boxes that a map draws at every threshold, and how well they match the given ones (MaxBoxAccV2).

A box is (left, top, right, bottom) in pixels, right and bottom exclusive: the pixel in row y and column x is
(x, y, x + 1, y + 1). VOC's files count from 1 and include the last pixel; `torchvice.data` converts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.errors import ViceError, as_array, same_length
from torchvice.metrics.thresholds import PAPER_THRESHOLDS, HeldOut, as_cuts, count_below, smallest

DELTAS = (0.3, 0.5, 0.7)


def map_boxes(map: Any, thresholds: Any = PAPER_THRESHOLDS) -> list[np.ndarray]:
    """The boxes that a map draws at every threshold: one around each connected component of map > t.

    Pixels that touch by a corner are connected (8 neighbours), as in the contours of OpenCV, with which the published
    measure finds its boxes; a hole has no box of its own. Scores and thresholds are compared in float32, NaN is above
    every threshold, both as in `competing_overlap`.

    Args:
        map: (H, W) scores.
        thresholds: (T,) rising numbers.

    Returns:
        T arrays (M, 4) int64, M boxes each, in the order of their first pixel, row by row.

    Raises:
        ViceError: another number of dimensions, or thresholds that do not rise.

    Example:
        >>> map_boxes([[0.9, 0.2, 0.0], [0.0, 0.0, 0.4]], [0.1, 0.3])
        [array([[0, 0, 3, 2]]), array([[0, 0, 1, 1],
               [2, 1, 3, 2]])]
    """
    boxes, at, count = _all_boxes(map, thresholds)
    return np.split(boxes, np.searchsorted(at, np.arange(1, count)))


def box_iou(a: Any, b: Any) -> np.ndarray:
    """(A, B) intersection over union of every box of `a` (A, 4) with every one of `b` (B, 4), in [0, 1].

    Raises:
        ViceError: other shapes, or a box without area.

    Example:
        >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3)
        array([[0.333, 0.   ]])
    """
    one, two = _as_boxes("a", a), _as_boxes("b", b)
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, two)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None, :] - shared))


def best_box_iou(map: Any, boxes: Any, thresholds: Any = PAPER_THRESHOLDS) -> np.ndarray:
    """The best IoU, at every threshold, of any box that the map draws with any given box of its class.

    Args:
        map: (H, W) scores of one class.
        boxes: (B, 4) the boxes of that class in the image; B may be 0.
        thresholds: (T,) rising numbers.

    Returns:
        (T,) float64 in [0, 1]; 0 where the map draws no box, NaN throughout without a given box.

    Raises:
        ViceError: as in `map_boxes` and `box_iou`.

    References:
        Choe et al., Evaluating weakly supervised object localization methods right, CVPR 2020; the form with several
        contours and several boxes is MaxBoxAccV2 of its extension, TPAMI 2022.

    Example:
        >>> best_box_iou([[0.9, 0.9, 0.0, 0.4]], [[0, 0, 2, 1]], [0.1, 0.95])
        array([1., 0.])
    """
    given = _as_boxes("boxes", boxes)
    drawn, at, count = _all_boxes(map, thresholds)
    if not len(given):
        return np.full(count, np.nan)
    best = np.zeros(count)
    np.maximum.at(best, at, box_iou(drawn, given).max(axis=1))
    return best


def box_planes(rows: Any, boxes: Any, size: tuple[int, int], count: int) -> np.ndarray:
    """The regions of classes as the unions of their boxes: planes that may overlap, as `competing_overlap` takes them.

    Args:
        rows: (B,) the plane of each box, 0..count - 1.
        boxes: (B, 4); a corner between two pixels goes to the nearer one, and no box is without a pixel.
        size: (H, W); what lies beyond is cut off.
        count: of the planes.

    Returns:
        (count, H, W) booleans.

    Raises:
        ViceError: as in `box_iou`, lengths that differ, or a row beyond the planes.

    Example:
        >>> box_planes([1], [[0, 0, 2, 1]], (2, 3), 2)[1].astype(int)
        array([[1, 1, 0],
               [0, 0, 0]])
    """
    corners, places = _as_boxes("boxes", boxes), as_array("rows", rows, 1, np.int64)
    same_length(rows=places, boxes=corners)
    if len(places) and not (places.min() >= 0 and places.max() < count):
        raise ViceError(f"`rows` must be 0 to {count - 1}, but holds {places.tolist()}.")
    low = np.rint(corners[:, :2]).clip(0).astype(np.int64)
    high = np.maximum(np.rint(corners[:, 2:]).astype(np.int64), low + 1)
    planes = np.zeros((count, *size), dtype=bool)
    for plane, (left, top), (right, bottom) in zip(places, low, high, strict=True):
        planes[plane, top:bottom, left:right] = True
    return planes


@dataclass(frozen=True)
class BoxAccuracy:
    """The shares of pairs whose best IoU reaches each delta.

    Attributes:
        deltas: (D,) the required IoUs.
        accuracy: (D,) in [0, 1], higher is better; NaN without a pair.
        chosen: (D,) indices of the thresholds that were chosen; held out, (D, P) one for each pair.
        mean: over the deltas.
        n: pairs that entered.
        undefined: pairs without a given box, left out.
    """

    deltas: tuple[float, ...]
    accuracy: np.ndarray
    chosen: np.ndarray
    mean: float
    n: int
    undefined: int


def max_box_accuracy(best: Any, deltas: Sequence[float] = DELTAS) -> BoxAccuracy:
    """MaxBoxAccV2: for each delta the highest share, over thresholds, of pairs with a best IoU of delta or more.

    The threshold is chosen for each delta on the pairs that are scored, which is optimistic; `held_out_box_accuracy`
    chooses it on others. The first of equally good thresholds wins.

    Args:
        best: (P, T) `best_box_iou` of P (image, class) pairs; rows of NaN are left out and counted.
        deltas: (D,) IoUs in (0, 1].

    Raises:
        ViceError: another number of dimensions, or a delta outside (0, 1].

    References:
        Choe et al., CVPR 2020 and TPAMI 2022, who score images, with one class each.

    Example:
        >>> found = max_box_accuracy([[0.6, 0.2], [0.4, 0.8]])
        >>> found.accuracy, found.chosen, round(found.mean, 3)
        (array([1. , 0.5, 0.5]), array([0, 0, 1]), 0.667)
    """
    reached, defined = _reached(best, deltas)
    if not defined.any():
        return _accuracy(deltas, np.full(len(deltas), np.nan), np.zeros(len(deltas), np.int64), defined)
    share = reached[:, defined].mean(axis=1)
    chosen = share.argmax(axis=1)
    return _accuracy(deltas, share[np.arange(len(deltas)), chosen], chosen, defined)


def held_out_box_accuracy(best: Any, folds: Any, deltas: Sequence[float] = DELTAS) -> BoxAccuracy:
    """`max_box_accuracy` with held-out thresholds, for each delta: see `torchvice.metrics.thresholds.HeldOut`.

    Args:
        best: (P, T) as in `max_box_accuracy`.
        folds: (P,) integers; the pairs of one image belong to one fold.
        deltas: as in `max_box_accuracy`.

    Raises:
        ViceError: as in `max_box_accuracy`, or lengths that differ.

    Example:
        >>> found = held_out_box_accuracy([[0.6, 0.2], [0.4, 0.8]], [0, 1], (0.5,))
        >>> found.accuracy, found.chosen
        (array([0.]), array([[1, 0]]))
    """
    fold = as_array("folds", folds, 1, np.int64)
    reached, defined = _reached(best, deltas)
    same_length(best=defined, folds=fold)
    rules = [HeldOut(hits[defined], fold[defined]) for hits in reached]
    chosen = np.zeros(reached.shape[:2], np.int64)
    chosen[:, defined] = [rule.index for rule in rules]
    accuracy = np.array([rule.quality.mean() if defined.any() else np.nan for rule in rules])
    return _accuracy(deltas, accuracy, chosen, defined)


def _accuracy(deltas: Sequence[float], accuracy: np.ndarray, chosen: np.ndarray, defined: np.ndarray) -> BoxAccuracy:
    n = int(defined.sum())
    return BoxAccuracy(tuple(deltas), accuracy, chosen, float(accuracy.mean()), n, len(defined) - n)


def _reached(best: Any, deltas: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(D, P, T) whether each delta is reached, and (P,) whether the pair has a box at all."""
    iou = as_array("best", best, 2, np.float64)
    required = as_array("deltas", deltas, 1, np.float64)
    if not len(required) or not ((required > 0) & (required <= 1)).all():
        raise ViceError(f"`deltas` must be one or more numbers in (0, 1], but is {list(deltas)}.")
    return iou >= required[:, None, None], ~np.isnan(iou).any(axis=1)


def _as_boxes(name: str, boxes: Any) -> np.ndarray:
    given = as_array(name, boxes, None)
    array = as_array(name, np.zeros((0, 4)) if given.shape[:1] == (0,) else given, 2)
    if array.shape[1] != 4 or not (array[:, 2:] > array[:, :2]).all():
        raise ViceError(
            f"`{name}` must be (B, 4) boxes of left, top, right and bottom, but is {array.tolist()}.",
            "Right and bottom are exclusive, so that a box of one pixel is (x, y, x + 1, y + 1).",
        )
    return array


def _all_boxes(map: Any, thresholds: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """The boxes of all thresholds (M, 4), the index of each one's threshold (M,), rising, and T.

    A component is made of runs: stretches of a row that are above the threshold. All runs of all thresholds are found
    in one pass over the pixels, joined where they touch a run of the next row, and their components are boxed at once.
    Labelling the pixels at each threshold takes ten times as long (maps enlarged to 375 x 500: 4 against 45 ms).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    scores = as_array("map", map, 2, np.float32)
    cuts = as_cuts(thresholds)
    count, (height, width) = len(cuts.table), scores.shape
    # A place is threshold, row and column in one integer. The spare row and the spare column keep what does not
    # touch apart.
    stride = width + 1
    begin, end = _runs(scores, cuts, stride)
    first = np.searchsorted(end, begin + stride)
    edges = np.searchsorted(begin, end + stride, side="right") - first
    one = np.repeat(np.arange(len(begin)), edges)
    two = np.arange(len(one)) - np.repeat(edges.cumsum() - edges, edges) + np.repeat(first, edges)
    touching = coo_array((np.ones(len(one), np.int8), (one, two)), shape=(len(begin), len(begin)))
    components, label = connected_components(touching, directed=False) if len(begin) else (0, begin)
    row, left = np.divmod(begin, stride)
    at, row = np.divmod(row, height + 1)
    right = end % stride
    boxes = np.full((components, 4), np.iinfo(np.int64).max)
    boxes[:, 2:] = 0
    earliest = np.full(components, len(begin))
    for ufunc, target, values in (
        (np.minimum, boxes[:, 0], left),
        (np.minimum, boxes[:, 1], row),
        (np.maximum, boxes[:, 2], right),
        (np.maximum, boxes[:, 3], row + 1),
        (np.minimum, earliest, np.arange(len(begin))),
    ):
        ufunc.at(target, label, values)
    order = np.argsort(earliest)
    return boxes[order], at[earliest[order]], count


def _runs(scores: np.ndarray, cuts: Any, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Where runs begin and end (the end exclusive), as places of all thresholds, rising.

    Between neighbours of a row that are above a and above b thresholds, b > a, begin the runs of the thresholds a to
    b - 1; where b < a, those of b to a - 1 end.
    """
    height, width = scores.shape
    level = np.zeros((height, width + 2), np.int32)
    inside = np.empty(scores.size, smallest(len(cuts.table) + 1))
    count_below(np.where(np.isnan(scores), np.float32(np.inf), scores).ravel(), cuts, inside)
    level[:, 1:-1] = inside.reshape(height, width)
    step = np.diff(level, axis=1)
    places = []
    for rises in (step, -step):
        row, column = np.nonzero(rises > 0)
        times = rises[row, column]
        low = np.minimum(level[row, column], level[row, column + 1])
        nth = np.arange(int(times.sum())) - np.repeat(times.cumsum() - times, times)
        threshold = np.repeat(low, times) + nth
        place = (threshold * (height + 1) + np.repeat(row, times)) * stride + np.repeat(column, times)
        place.sort()
        places.append(place)
    return places[0], places[1]
