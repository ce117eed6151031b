"""Consistency: VICE of `strict` with its interval, its labelled sensitivities, and where it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.inference import (
    LEVEL,
    Inference,
    Replicates,
    ends_of,
    images_of,
    number_or_none,
    too_few_images,
)
from torchvice.measures.pairs import Pairs
from torchvice.measures.qualities import QUALITIES, quality_of
from torchvice.measures.rows import ClassRow, Fold, Stratum
from torchvice.measures.sheet import Sheet
from torchvice.measures.wording import decimals
from torchvice.metrics import average_precision, pair_log_likelihood, pair_vice
from torchvice.metrics.association import (
    FEWEST_ROWS,
    LOSS_FLOOR,
    Association,
    log_loss_pearson,
    partial_spearman,
    pearson,
    pearson_is_reliable,
    skewness_and_kurtosis,
    spearman,
    within_spearman,
)
from torchvice.metrics.concordance import kendall, kendall_with_interval
from torchvice.metrics.parallel import matrix_products, results_of
from torchvice.metrics.partial import PartialSpearman, merged_counts
from torchvice.metrics.permutation import freedman_lane_p, permutation_p, permutes
from torchvice.metrics.resampling import Interval
from torchvice.metrics.weighted import (
    HeldOutSpearman,
    Mean,
    Pearson,
    Spearman,
    WithinSpearman,
)

__all__ = [
    "CALLED",
    "ConsistencyData",
    "put_consistency_of_pairs",
    "put_intervals_of_vice",
    "put_paper_interval",
    "vice_replicates",
    "vice_statistic",
]

PERMUTATIONS = 1999
CALLED = ("The certainty", "The quality of the maps")  # what both columns of VICE are called
COLUMNS = {"a": CALLED[0], "b": CALLED[1], "quality": CALLED[1]}
MANY = 2**15  # pairs; with fewer, threads would mostly wait for Python's lock
_T = TypeVar("_T")
FIXED_THRESHOLD = 0.1  # the paper's
FEWEST = 10  # pairs; below it a correlation within a class or stratum is not given
NOTHING_LEFT = "Size and label count leave nothing to correlate."


@dataclass(frozen=True)
class ConsistencyData:
    """Input of the consistency measures: the pairs, the quality of their maps, and the loss of each image.

    `quality` (P,) NaN where undefined; `image_id` (N,) and `loss` (N,) nats of the images with a mask; `probabilities`
    and `targets` (N', C) of all images.
    """

    pairs: Pairs
    name: str
    quality: np.ndarray
    image_id: np.ndarray
    loss: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]
    thresholds: np.ndarray


def vice_statistic(
    pairs: Pairs, name: str, quality: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Return VICE as a function of weights, and the image of each of its rows.

    Of the IoU the thresholds are chosen again in every resampling; of another quality the undefined pairs are left out.
    """
    if name == "ji":
        return HeldOutSpearman(pairs.logit, pairs.iou, pairs.fold, pairs.image_id), pairs.image_id
    known = ~np.isnan(quality)
    return Spearman(pairs.logit[known], quality[known]), pairs.image_id[known]


def vice_replicates(pairs: Pairs, name: str, quality: np.ndarray, inference: Inference) -> Replicates:
    """VICE over each resampling, computed once for these pairs and this quality; see `vice_statistic`."""
    return inference.once(pairs, name, lambda: inference.replicates(*vice_statistic(pairs, name, quality)))


def put_intervals_of_vice(sheet: Sheet, subject: ConsistencyData, inference: Inference) -> None:
    """Put the intervals of VICE of `strict` and with the chosen quality, from replicates that the controls share."""
    pairs = subject.pairs
    for path, name, quality in (("quality.vice", subject.name, subject.quality), ("strict.vice", "ji", pairs.quality)):
        section, _, measure = path.partition(".")
        value = sheet.sections[section].get(measure, np.nan)
        if inference.resampling is not None and np.isfinite(value):
            sheet.put_interval(path, inference.interval(value, vice_replicates(pairs, name, quality, inference)))


def put_consistency_of_pairs(sheet: Sheet, subject: ConsistencyData, inference: Inference) -> None:
    """Put VICE, its sensitivities, strata, classes and folds into the sheet."""
    pairs = subject.pairs
    if len(pairs) < 3:
        sheet.notes["strict.vice"] = "There are fewer than three true pairs: nothing is correlated."
        return
    _put_headline(sheet, subject, inference)
    for name, value, statistic, rows in _sensitivities(subject):
        _put(sheet, f"sensitivities.{name}", value, statistic, rows, inference)
    _put_kendall(sheet, subject, inference)
    _put_strata(sheet, subject, inference)
    _put_classes(sheet, subject, inference)
    sheet.parts["threshold_curve"] = _threshold_curve(subject)
    sheet.parts["folds"] = _folds(pairs)


def _put(sheet: Sheet, path: str, value: Any, statistic: Any, image_id: np.ndarray, inference: Inference) -> None:
    """Put a value and its interval; `statistic` is only built if the value is defined."""
    try:
        found = value() if isinstance(value, partial) else value
    except ViceError as error:  # one sensitivity never ends the measurement
        sheet.leave_out([path], error.message)
        return
    if isinstance(found, Association):
        sheet.put(path, found.value, _why(found))
    else:
        sheet.put(path, found)
    number = sheet.value(path)
    if np.isfinite(number) and inference.resampling is not None:
        sheet.put_interval(path, inference.interval(number, inference.replicates(statistic(), image_id)))


def _why(found: Association) -> str:
    """Why certainty and the quality of the maps have no association, as a sentence; "" if they have one."""
    if not found.reason:
        return ""
    if found.n < FEWEST_ROWS:
        return f"There {'is' if found.n == 1 else 'are'} only {found.reason}."
    if found.column in COLUMNS:
        return f"{COLUMNS[found.column]}{found.reason.removeprefix(found.column)}."
    return f"{found.reason[:1].upper()}{found.reason[1:]}."


def _put_headline(sheet: Sheet, subject: ConsistencyData, inference: Inference) -> None:
    """Put VICE with the chosen quality, the tests, and intervals: those of VICE by `put_intervals_of_vice`."""
    pairs, known = subject.pairs, ~np.isnan(subject.quality)
    mean = float(subject.quality[known].mean()) if known.any() else float("nan")
    found = spearman(pairs.logit, subject.quality)
    sheet.put("quality.vice", found.value, _why(found))
    _put(sheet, "quality.mean", mean, partial(Mean, subject.quality[known]), pairs.image_id[known], inference)
    if inference.resampling is None or not np.isfinite(sheet.value("strict.vice")):
        return
    replicates = inference.replicates(Mean(pairs.quality), pairs.image_id)
    sheet.put_interval("strict.ji", inference.interval(sheet.value("strict.ji"), replicates))
    _put_tests(sheet, pairs, inference.clusters(pairs.image_id))


def _put_tests(sheet: Sheet, pairs: Pairs, cluster: np.ndarray) -> None:
    """Put the permutation tests of VICE, and of VICE given size and label count; `cluster` is the image of each."""
    exact, few = permutes(len(pairs), PERMUTATIONS), too_few_images(images_of(cluster))
    drawn, by = (PERMUTATIONS, "permutation") if exact else (None, "normal distribution")
    p = math.nan if few else permutation_p(pairs.logit, pairs.quality, cluster, permutations=PERMUTATIONS)
    sheet.put_test("strict.vice", p, f"studentised {by}, standard error by images", drawn, few)
    given = (pairs.logit, pairs.quality, pairs.area, merged_counts(pairs.labels))
    p = math.nan if few else freedman_lane_p(*given, cluster=cluster, permutations=PERMUTATIONS)
    method = f"Freedman and Lane, studentised{'' if exact else f' {by}'}, standard error by images"
    sheet.put_test("sensitivities.partial_spearman", p, method, drawn, few or NOTHING_LEFT)


Named = tuple[str, Any, Any, np.ndarray]


def _sensitivities(subject: ConsistencyData) -> list[Named]:
    """List (name, value, statistic, image of each row) of all but Kendall's, which is no function of weights."""
    pairs, quality = subject.pairs, subject.quality
    known = ~np.isnan(quality)
    logit, good, image_id = pairs.logit[known], quality[known], pairs.image_id[known]
    likely = pair_log_likelihood(logit)
    area, labels, group = pairs.area[known], merged_counts(pairs.labels[known]), pairs.class_index[known]
    rows, mean = _image_quality(subject)
    loss, ids = subject.loss[rows], subject.image_id[rows]
    found: list[Named] = [
        ("image_spearman", partial(spearman, -loss, mean), partial(Spearman, -loss, mean), ids),
        ("image_log_pearson", partial(log_loss_pearson, loss, mean), partial(Pearson, -_log(loss), mean), ids),
        ("pair_pearson", partial(pearson, likely, good), partial(Pearson, likely, good), image_id),
        (
            "pair_log_pearson",
            partial(log_loss_pearson, -likely, good),
            partial(Pearson, -_log(-likely), good),
            image_id,
        ),
        (
            "partial_spearman",
            partial(partial_spearman, logit, good, area, labels),
            partial(PartialSpearman, logit, good, area, labels),
            image_id,
        ),
        (
            "within_class",
            partial(within_spearman, logit, good, group),
            partial(WithinSpearman, logit, good, group),
            image_id,
        ),
    ]
    found += _of_other_qualities(subject)
    found += _of_other_thresholds(subject)
    return found


def _log(loss: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(loss, LOSS_FLOOR))


def _image_quality(subject: ConsistencyData) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the images that have a pair with a quality, and the mean quality of each."""
    row_of = {name: row for row, name in enumerate(subject.image_id.tolist())}
    known = ~np.isnan(subject.quality)
    rows = np.array([row_of[name] for name in subject.pairs.image_id[known].tolist()], dtype=np.int64)
    total = np.bincount(rows, subject.quality[known], minlength=len(row_of))
    count = np.bincount(rows, minlength=len(row_of))
    rows_with_pair = np.flatnonzero(count)
    return rows_with_pair, total[rows_with_pair] / count[rows_with_pair]


def _of_other_qualities(subject: ConsistencyData) -> list[Named]:
    """VICE with every other quality that the table holds, and Pearson with precision and recall."""
    pairs, found = subject.pairs, []
    for name in QUALITIES:
        if name == subject.name:
            continue
        try:
            values = quality_of(pairs, name)
        except ViceError:
            continue
        found += [_spearman_with(f"vice_{name}", pairs, values)]
        if name in ("precision", "recall"):
            known = ~np.isnan(values)
            likely, good = pair_log_likelihood(pairs.logit[known]), values[known]
            made = partial(pearson, likely, good), partial(Pearson, likely, good)
            found.append((f"pearson_{name}", *made, pairs.image_id[known]))
    return found


def _spearman_with(name: str, pairs: Pairs, values: np.ndarray) -> Named:
    known = ~np.isnan(values)
    logit, good = pairs.logit[known], values[known]
    return name, partial(spearman, logit, good), partial(Spearman, logit, good), pairs.image_id[known]


def _of_other_thresholds(subject: ConsistencyData) -> list[Named]:
    """VICE at the paper's fixed threshold, and at the best threshold of the same images, which is optimistic."""
    pairs = subject.pairs
    fixed = int(np.abs(subject.thresholds - FIXED_THRESHOLD).argmin())
    best = int(pairs.iou.mean(axis=0).argmax())
    return [
        _spearman_with("threshold_fixed", pairs, pairs.iou[:, fixed]),
        _spearman_with("threshold_best", pairs, pairs.iou[:, best]),
    ]


def _put_kendall(sheet: Sheet, subject: ConsistencyData, inference: Inference) -> None:
    known = ~np.isnan(subject.quality)
    logit, good = subject.pairs.logit[known], subject.quality[known]
    if inference.resampling is None:
        found, interval = kendall(logit, good), None
    else:
        cluster = inference.clusters(subject.pairs.image_id[known])
        found, interval = kendall_with_interval(logit, good, cluster)
        if few := too_few_images(images_of(cluster)):
            interval = Interval(math.nan, math.nan, LEVEL, interval.method, reason=few)
    sheet.put("sensitivities.kendall", found.value, _why(found))
    if interval is not None and np.isfinite(found.value):
        sheet.put_interval("sensitivities.kendall", interval)


def _put_strata(sheet: Sheet, subject: ConsistencyData, inference: Inference) -> None:
    """VICE within strata of area, label count and correctness."""
    pairs = subject.pairs
    thirds = np.quantile(pairs.area, [1 / 3, 2 / 3])
    size = np.searchsorted(thirds, pairs.area, side="left")
    right = pairs.predicted
    strata = [
        ("area", f"{name} (up to {decimals(top)} of the image)", size == i)
        for i, (name, top) in enumerate(
            zip(("small", "medium", "large"), (*thirds, float(pairs.area.max())), strict=True)
        )
    ]
    for count in (1, 2, 3):
        name = f"{count}{' or more' if count == 3 else ''} label{'s' if count > 1 else ''}"
        strata.append(("labels", name, pairs.labels >= 3 if count == 3 else pairs.labels == count))
    strata += [("correctness", "predicted", right), ("correctness", "not predicted", ~right)]
    members = [rows for _, _, rows in strata]
    found = _of_each(lambda own: _vice_of_rows(subject, own, inference), members, len(pairs))
    sheet.parts["strata"] = [Stratum(by, name, **row) for (by, name, _), row in zip(strata, found, strict=True)]
    sheet.notes["strata.correctness"] = (
        "Within predicted or not predicted pairs the logit varies less than over all pairs. The restriction of range "
        "lowers the correlation there; this is no sign of less consistency."
    )


def _vice_of_rows(subject: ConsistencyData, rows: np.ndarray, inference: Inference) -> dict[str, Any]:
    """VICE of some pairs, each at the threshold that it has among all pairs; None with fewer than FEWEST."""
    rows = rows & ~np.isnan(subject.quality)
    logit, good = subject.pairs.logit[rows], subject.quality[rows]
    row: dict[str, Any] = {"pairs": int(rows.sum()), "quality": float(good.mean()) if len(good) else None}
    try:
        if len(logit) < FEWEST:
            raise ViceError("too few")
        value = pair_vice(logit, good).value
    except ViceError:
        return row | {"vice": None, "vice_low": None, "vice_high": None}
    limits = inference.interval(value, inference.replicates(Spearman(logit, good), subject.pairs.image_id[rows]))
    low, high = ends_of(limits)
    return row | {"vice": value, "vice_low": low, "vice_high": high}


def _of_each(function: Callable[[np.ndarray], _T], parts: Iterable[np.ndarray], pairs: int) -> list[_T]:
    """What a function returns for each part of so many pairs; of many pairs several parts are at work at a time."""
    if pairs < MANY:
        return [function(part) for part in parts]
    with matrix_products().limit(limits=1):  # around all threads: each would restore what another one has set
        return results_of(function, parts)


def _put_classes(sheet: Sheet, subject: ConsistencyData, inference: Inference) -> None:
    """AP, quality and VICE of every class."""
    precision = average_precision(subject.probabilities, subject.targets)
    members = [subject.pairs.class_index == c for c in range(len(subject.classes))]
    rows = _of_each(lambda own: _vice_of_rows(subject, own, inference), members, len(subject.pairs))
    found = zip(subject.classes, precision.tolist(), rows, strict=True)
    sheet.parts["classes"] = [ClassRow(name, number_or_none(ap), **row) for name, ap, row in found]


def _threshold_curve(subject: ConsistencyData) -> dict[str, list[Any]]:
    """Mean pair IoU and VICE at every threshold."""

    def vice_at(values: np.ndarray) -> float | None:
        try:
            return pair_vice(subject.pairs.logit, values).value
        except ViceError:
            return None

    return {
        "thresholds": subject.thresholds.tolist(),
        "pair_iou": subject.pairs.iou.mean(axis=0).tolist(),
        "vice": _of_each(vice_at, subject.pairs.iou.T, len(subject.pairs)),
    }


def _folds(pairs: Pairs) -> list[Fold]:
    """The threshold of every fold, chosen on the other folds, and the number of its pairs."""
    folds = []
    for fold in np.unique(pairs.fold).tolist():
        here = pairs.fold == fold
        folds.append(Fold(fold, float(pairs.chosen[here][0]), int(here.sum())))
    return folds


def put_paper_interval(
    sheet: Sheet, loss: np.ndarray, ji: np.ndarray, image_id: np.ndarray, inference: Inference
) -> None:
    """Put the interval of the published VICE, and a note if it is not reliable."""
    value = sheet.value("paper.vice")
    if inference.resampling is None or not np.isfinite(value):
        return
    sheet.put_interval("paper.vice", inference.interval(value, inference.replicates(Pearson(-loss, ji), image_id)))
    sheet.put_interval("paper.ji", inference.interval(float(ji.mean()), inference.replicates(Mean(ji), image_id)))
    if "paper.vice" in sheet.intervals and not pearson_is_reliable(loss):
        skew, kurtosis = skewness_and_kurtosis(loss)
        sheet.not_reliable(
            "paper.vice",
            f"The interval is not reliable: the losses have skewness {skew:.1f} and excess kurtosis {kurtosis:.1f}, "
            "and with such losses a 95 % interval of Pearson's correlation may cover the truth half the time. The "
            "headline is Spearman's.",
        )
