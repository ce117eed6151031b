"""VICE as an association: given all that moves it, over all good thresholds, and in senses without a threshold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.inference import Inference, images_of, too_few_images
from torchvice.measures.pairs import Pairs
from torchvice.measures.sheet import Measures, Sheet
from torchvice.metrics import pair_vice
from torchvice.metrics.joint import FEWEST, JointSpearman
from torchvice.metrics.localisation import renormalised_iou
from torchvice.metrics.resampling import reflected_interval

__all__ = ["Disagreement", "disagreement", "good_thresholds", "joint_statistic", "put_association"]

FLIPS = 1999
FURTHER = np.arange(100) / 100
NEARLY = 0.03  # thresholds whose mean IoU lies this share below the best are as good as the best
WITHOUT_THRESHOLD = ("soft_iou", "energy", "pointing")
TOO_FEW = f"Class, size, labels and extent need {FEWEST} pairs in addition to one for each class, but there are {{}}."


def put_association(sheet: Sheet, pairs: Pairs, thresholds: np.ndarray, inference: Inference) -> None:
    """Put the joint VICE, the range of VICE over good thresholds, and a note where the grid ends at the best."""
    _put_joint(sheet, pairs, inference)
    _put_range(sheet, pairs, thresholds)


def joint_statistic(pairs: Pairs) -> JointSpearman:
    """The joint VICE as a function of the weights of images, by id; the thresholds are those of the pairs.

    The size and the extent of a pair are shares of its image's pixels.
    """
    regions = pairs.regions
    if regions is None:
        raise ViceError("The pairs must come with their table's rows, but have none.", "Take them from true_pairs.")
    predicted = regions.predicted[np.arange(len(pairs)), pairs.at]
    extent = predicted / np.rint(regions.mask_pixels / pairs.area)
    image = np.unique(pairs.image_id, return_inverse=True)[1]
    return JointSpearman(pairs.logit, pairs.quality, pairs.class_index, pairs.area, pairs.labels, extent, image)


def _put_joint(sheet: Sheet, pairs: Pairs, inference: Inference) -> None:
    path = "strict.vice_joint"
    if not np.isfinite(pairs.logit).all():
        sheet.leave_out([path], "A logit is infinite.")
        return
    joint = joint_statistic(pairs)
    reason = TOO_FEW.format(joint.spare) if joint.spare < FEWEST else "Nothing is left to correlate."
    sheet.put(path, joint.value, reason)
    value = sheet.value(path)
    if np.isfinite(value) and inference.resampling is not None:
        replicates = inference.replicates(joint, np.unique(pairs.image_id))
        sheet.put_interval(path, inference.interval(value, replicates, reflected_interval))
        cluster = inference.clusters(pairs.image_id)
        few = too_few_images(images_of(cluster))
        p = np.nan if few else joint.p_value(cluster, FLIPS)
        sheet.put_test(path, p, "signs of each image's residual products flipped", FLIPS, few)


def good_thresholds(iou: np.ndarray) -> np.ndarray:
    """(T,) bool of (P, T) IoUs: whether the mean IoU lies within 3 % of the best; undefined means are not good."""
    mean = iou.mean(axis=0)
    return np.asarray(mean >= (1 - NEARLY) * mean.max(initial=0)) & (mean > 0)


def _put_range(sheet: Sheet, pairs: Pairs, thresholds: np.ndarray) -> None:
    """Put the lowest and highest VICE over the good thresholds, and the first and last of these."""
    iou, thresholds = _further(pairs, thresholds)
    names = ("vice_lowest", "vice_highest", "threshold_first", "threshold_last")
    values = {}
    for place in np.flatnonzero(good_thresholds(iou)).tolist() if len(pairs) else []:
        try:
            values[float(thresholds[place])] = pair_vice(pairs.logit, iou[:, place]).value
        except ViceError:
            continue
    numbers = (min(values.values()), max(values.values()), min(values), max(values)) if values else (np.nan,) * 4
    for name, number in zip(names, numbers, strict=True):
        sheet.put(f"strict.{name}", number, "VICE is undefined at every threshold.")
    if note := _at_the_end(pairs, iou, thresholds):
        sheet.notes["thresholds"] = note


def _further(pairs: Pairs, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoUs (P, T') and thresholds (T',): those of the table and, if its highest is good, further ones up to 0.99.

    At the further ones classes do not compete: the histograms of each class's own map give the IoU, to a bin of 1/256.
    """
    regions = pairs.regions
    if regions is None or not len(pairs) or not good_thresholds(pairs.iou)[-1]:
        return pairs.iou, thresholds
    more = FURTHER[thresholds[-1] + 1e-9 < FURTHER]
    own = np.nan_to_num(renormalised_iou(regions.inside, regions.outside, "max", more))
    return np.concatenate([pairs.iou, own], axis=1), np.concatenate([thresholds, more])


def _at_the_end(pairs: Pairs, iou: np.ndarray, thresholds: np.ndarray) -> str:
    """Say if a fold chooses an end of the table, and where the best is then; empty if every threshold is as good."""
    count = pairs.iou.shape[1]
    if len(pairs) == 0 or count == 1 or not np.ptp(pairs.iou.mean(axis=0)) > 0:
        return ""
    folds = [int(pairs.at[pairs.fold == fold][0]) for fold in np.unique(pairs.fold)]
    said = []
    for place, name in ((0, "lowest"), (count - 1, "highest")):
        if number := folds.count(place):
            said.append(
                f"In {number} of {len(folds)} folds the chosen threshold is the {name} of the table, "
                f"{thresholds[place]:.2f}."
            )
    best = int(iou.mean(axis=0).argmax())
    if folds.count(count - 1) and best >= count:
        said.append(
            f"Counted class by class, the mean IoU is highest at {thresholds[best]:.2f}: VICE there is another number."
        )
    return " ".join(said)


@dataclass(frozen=True)
class Disagreement:
    """What VICE establishes, against VICE in a sense that chooses no threshold.

    `quality` is its name, `vice` its value with `low` and `high`, the ends of the 95 % interval; `established` is 1 or
    -1 where the whole interval lies above or below 0, else 0; `headline` is the same of `strict.vice`.
    """

    quality: str
    vice: float
    low: float
    high: float
    established: int
    headline: int

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def disagreement(measures: Measures | Sheet) -> list[Disagreement]:
    """List the senses of VICE without a threshold that establish something else than the headline does.

    These are VICE with soft IoU, energy and pointing, where the measures have them with an interval.

    Args:
        measures: of one table.

    Returns:
        One row for each that differs in what is established (above 0, below 0, neither); empty without intervals.
    """
    headline = _established(measures.intervals.get("strict.vice"))
    rows = []
    for name in WITHOUT_THRESHOLD:
        path = "quality.vice" if measures.quality.get("name") == name else f"sensitivities.vice_{name}"
        limits = measures.intervals.get(path)
        here = _established(limits)
        if limits is not None and here is not None and headline is not None and here != headline:
            rows.append(Disagreement(name, measures.value(path), limits["low"], limits["high"], here, headline))
    return rows


def _established(limits: dict[str, Any] | None) -> int | None:
    """1 or -1 where an interval lies above or below 0, else 0; None without one."""
    return None if limits is None else int(limits["low"] > 0) - int(limits["high"] < 0)
