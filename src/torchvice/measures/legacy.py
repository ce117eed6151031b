"""The original's table of samples: measure one, and write one."""

from __future__ import annotations

import numpy as np

from torchvice.errors import ViceError
from torchvice.interop import LegacyTable, counts_entropy
from torchvice.measures.catalogue import paths
from torchvice.measures.protocols import paper_ji, threshold_index
from torchvice.measures.sheet import (
    DiagramParts,
    Measures,
    Sheet,
    put_consistency,
    put_precision_recall,
)
from torchvice.measures.verdict import Verdict
from torchvice.metrics import confidence, multilabel_accuracy, multilabel_f1, reliability, sample_accuracy
from torchvice.metrics.iou import PAPER_EPSILON
from torchvice.metrics.multilabel import sample_f1
from torchvice.metrics.thresholds import SAMPLE_THRESHOLD
from torchvice.samples import Samples

__all__ = ["legacy_table", "measure_table"]

VOC_CLASSES = 20
NO_LABELS = "Nothing can be said of single labels: the CSV holds one number for each image."


def measure_table(table: LegacyTable, num_classes: int | None = None) -> Measures:
    """Measure the original's table: the numbers of `paper` that need no probabilities and no masks.

    Args:
        table: `name_image, loss, confidence, entropy, label, prediction` and, after step 3, `miou, miou_exist`.
        num_classes: C, for the averages over classes. None: VOC's 20 where the highest class of the table is the
            twentieth; else those averages are undefined, because the table does not say how many classes there are.

    Returns:
        Measures; what the columns do not carry is null, with the reason.

    Raises:
        ViceError: an empty table, one without the columns of any number, or a class index from `num_classes` on.
    """
    count = len(table.name_image)
    if not count:
        raise ViceError("A measurement needs images, but the table has no row.")
    _check_columns(table)
    sheet, diagrams = Sheet(), DiagramParts()
    targets, predicted = (_indicator(table, name, num_classes or VOC_CLASSES) for name in ("label", "prediction"))
    if table.miou is None or table.loss is None:
        absent = "miou" if table.miou is None else "loss"
        sheet.leave_out([f"paper.{name}" for name in ("vice", "ji", "kl", "js")], f"The CSV has no column `{absent}`.")
    else:
        put_consistency(sheet, table.loss, table.miou)
        diagrams.loss, diagrams.ji = table.loss, table.miou
    if targets is None or predicted is None:
        labels = "The CSV has no columns `label` and `prediction`."
        sheet.leave_out(["paper.ece_ml", "paper.ml_accuracy", "paper.f1"], labels)
        sheet.leave_out(["strict.ml_accuracy", "strict.f1", *paths("classification")], labels)
    else:
        _put_decisions(sheet, diagrams, table, targets, predicted)
        highest = int((targets + predicted).any(axis=0).nonzero()[0].max(initial=-1))
        if num_classes is None and highest + 1 != VOC_CLASSES:
            reason = f"The CSV does not say how many classes there are (the highest is {highest}): give --classes N."
            for name in ("cp", "cr", "cf1"):
                sheet.put(f"classification.{name}", float("nan"), reason)
    more = "The CSV carries neither probabilities nor masks: assess the model with vice assess."
    unknown = [path for path in paths("strict") if path not in ("strict.ml_accuracy", "strict.f1")]
    sheet.leave_out([*unknown, "classification.mean_average_precision", *paths("localisation", "overview")], more)
    sheet.parts["verdict"] = Verdict((NO_LABELS,))
    return sheet.measures(count, {}, {"table": "csv"}, diagrams.whole())


def _check_columns(table: LegacyTable) -> None:
    """Refuse a table that no number can be computed from."""
    groups = (("loss", "miou"), ("label", "prediction"))
    absent = [[name for name in group if getattr(table, name) is None] for group in groups]
    if all(absent):
        raise ViceError(
            f"A CSV must hold `loss` and `miou` (for VICE), or `label` and `prediction` (for accuracy and ECE-ML), but "
            f"lacks {', '.join(f'`{column}`' for part in absent for column in part)}.",
            "Add the columns of one of the two groups, or assess the model: vice assess.",
        )


def _indicator(table: LegacyTable, name: str, num_classes: int) -> np.ndarray | None:
    """(N, C) of 0 and 1 from a column of class lists; None if the table has no such column."""
    column = getattr(table, name)
    if column is None:
        return None
    result = np.zeros((len(column), num_classes))
    for row, classes in enumerate(column):
        if len(classes) and (max(classes) >= num_classes or min(classes) < 0):
            wrong = min(classes) if min(classes) < 0 else max(classes)
            raise ViceError(
                f"`{name}` of {table.name_image[row]} must be 0 to {num_classes - 1}, but one is {wrong}.",
                "Number the classes from 0." if wrong < 0 else "Say how many classes there are: --classes N.",
            )
        result[row, np.asarray(classes, dtype=np.int64)] = 1
    return result


def _put_decisions(
    sheet: Sheet, diagrams: DiagramParts, table: LegacyTable, targets: np.ndarray, predicted: np.ndarray
) -> None:
    """Put the measures of label sets, predicted sets and confidence."""
    accuracy = sample_accuracy(predicted, targets)
    nothing = "An image with neither label nor prediction has no accuracy (0/0)."
    sheet.put("paper.ml_accuracy", float(accuracy.mean()), nothing)
    sheet.put("strict.ml_accuracy", multilabel_accuracy(predicted, targets, "strict"), nothing)
    sheet.put("paper.f1", float(np.nan_to_num(sample_f1(predicted, targets)).mean()))
    sheet.put("strict.f1", multilabel_f1(predicted, targets, "strict"), nothing)
    if table.confidence is None:
        sheet.leave_out(["paper.ece_ml"], "The CSV has no column `confidence`.")
    else:
        diagram = reliability(table.confidence, accuracy)
        sheet.put("paper.ece_ml", diagram.ece, nothing)
        diagrams.reliability["paper"] = diagram
    put_precision_recall(sheet, predicted, targets)


def legacy_table(samples: Samples) -> LegacyTable:
    """The original's table of samples, from a table that was assessed under `paper`.

    Returns:
        LegacyTable with all eight columns, ordered by image id. `miou` is NaN, and `miou_exist` empty, for an image
        without a mask or with no label of an IoU above 0.

    Raises:
        ViceError: the table was not assessed under `paper`.
    """
    paper = samples.of_protocol("paper")
    images, regions, probabilities = paper.images, paper.regions, paper.probabilities
    at = threshold_index(samples.thresholds, SAMPLE_THRESHOLD)
    shared, predicted = regions.intersection[:, at], regions.predicted[:, at]
    iou = shared / (predicted + regions.mask_pixels - shared + PAPER_EPSILON)
    first = np.searchsorted(regions.image_id.astype(str), images.image_id.astype(str))
    last = np.searchsorted(regions.image_id.astype(str), images.image_id.astype(str), side="right")
    exist = [iou[a:b][iou[a:b] != 0] for a, b in zip(first, last, strict=True)]
    return LegacyTable(
        name_image=images.image_id,
        loss=paper.losses,
        confidence=confidence(probabilities),
        entropy=counts_entropy(probabilities),
        label=[np.flatnonzero(row) for row in images.targets],
        prediction=[np.flatnonzero(row) for row in paper.predicted],
        miou=paper_ji(samples, images, regions),
        miou_exist=exist,
    )
