"""Plain loops that say what the measures mean: slow, in pure Python, written from the definitions and not from src."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

FILES = Path(__file__).with_name("reference")  # numbers of the original implementation

Rows = Sequence[Sequence[float]]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def sample_loss(logits: Rows, targets: Rows) -> list[float]:
    """Mean over classes of -ln p for a label, -ln(1 - p) without one."""
    losses = []
    for zs, ys in zip(logits, targets, strict=True):
        terms = []
        for z, y in zip(zs, ys, strict=True):
            p = 1 / (1 + math.exp(-z))
            terms.append(-math.log(p) if y else -math.log1p(-p))
        losses.append(mean(terms))
    return losses


def confidence(row: Sequence[float]) -> float:
    predicted = [p for p in row if p > 0.5]
    return mean(predicted) if predicted else max(row)


def label_sets(row: Sequence[float], targets: Sequence[float]) -> tuple[set[int], set[int]]:
    return {c for c, p in enumerate(row) if p > 0.5}, {c for c, y in enumerate(targets) if y}


def jaccard(row: Sequence[float], targets: Sequence[float]) -> float:
    said, true = label_sets(row, targets)
    return len(said & true) / len(said | true) if said | true else math.nan


def dice(row: Sequence[float], targets: Sequence[float]) -> float:
    said, true = label_sets(row, targets)
    return 2 * len(said & true) / (len(said) + len(true)) if said or true else math.nan


def precision(row: Sequence[float], targets: Sequence[float]) -> float:
    said, true = label_sets(row, targets)
    if not said:
        return float(max(range(len(row)), key=lambda c: row[c]) in true)
    return len(said & true) / len(said)


def ece(confidences: Sequence[float], outcomes: Sequence[float], bins: int, takes_zero: bool) -> float:
    """Sum over bins (lo, hi] of the share of images times the gap of the means; edges are far from all values."""
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        members = [i for i, c in enumerate(confidences) if low < c <= high or (takes_zero and b == 0 and c == 0)]
        if members:
            gap = abs(mean([confidences[i] for i in members]) - mean([outcomes[i] for i in members]))
            total += gap * len(members) / len(confidences)
    return total


def precision_recall(said: Rows, targets: Rows) -> dict[str, float]:
    """CP, CR, CF1, OP, OR, OF1 of decisions; a class without prediction (label) has precision (recall) 0."""
    classes = range(len(targets[0]))
    hits = [sum(1 for s, y in zip(said, targets, strict=True) if s[c] and y[c]) for c in classes]
    predicted = [sum(1 for s in said if s[c]) for c in classes]
    true = [sum(1 for y in targets if y[c]) for c in classes]
    cp = mean([h / n if n else 0.0 for h, n in zip(hits, predicted, strict=True)])
    cr = mean([h / n if n else 0.0 for h, n in zip(hits, true, strict=True)])
    op = sum(hits) / sum(predicted) if sum(predicted) else 0.0
    or_ = sum(hits) / sum(true) if sum(true) else 0.0
    return {"cp": cp, "cr": cr, "cf1": harmonic(cp, cr), "op": op, "or_": or_, "of1": harmonic(op, or_)}


def harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def average_precision(scores: Sequence[float], targets: Sequence[float]) -> float:
    """Mean, over the true images, of the precision among all that score at least as high."""
    found = []
    for s, y in zip(scores, targets, strict=True):
        if y:
            above = [t for other, t in zip(scores, targets, strict=True) if other >= s]
            found.append(sum(above) / len(above))
    return mean(found) if found else math.nan


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    middle_a, middle_b = mean(a), mean(b)
    shared = sum((x - middle_a) * (y - middle_b) for x, y in zip(a, b, strict=True))
    return shared / math.sqrt(sum((x - middle_a) ** 2 for x in a) * sum((y - middle_b) ** 2 for y in b))


def ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value, ties on the middle of their places."""
    return [sum(other < v for other in values) + (sum(other == v for other in values) + 1) / 2 for v in values]


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    return pearson(ranks(a), ranks(b))


def relative_entropy(p: Sequence[float], q: Sequence[float]) -> float:
    total_p, total_q = sum(p), sum(q)
    return sum(x / total_p * math.log(x / total_p / (y / total_q)) for x, y in zip(p, q, strict=True) if x)


def published_js(p: Sequence[float], q: Sequence[float]) -> float:
    mixture = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    return (relative_entropy(p, mixture) + relative_entropy(q, mixture)) / 2 / math.log(2)


def paper_ji(counts: Sequence[tuple[int, int, int]]) -> float:
    """Mean of the IoUs that are not 0, from (mask, predicted, shared) pixels of every label of an image."""
    found = [shared / (mask + said - shared + 1e-10) for mask, said, shared in counts]
    found = [iou for iou in found if iou]
    return mean(found) if found else math.nan


def fold_of(image_id: str) -> int:
    return int(hashlib.sha256(image_id.encode("utf-8")).hexdigest(), 16) % 5


def held_out(image_ids: Sequence[str], iou: Rows) -> list[int]:
    """For every pair the place of the threshold of highest mean IoU among the pairs of the other folds' images."""
    chosen = []
    for name in image_ids:
        others = [row for other, row in zip(image_ids, iou, strict=True) if fold_of(other) != fold_of(name)]
        others = others or list(iou)
        means = [mean([row[t] for row in others]) for t in range(len(iou[0]))]
        chosen.append(means.index(max(means)))
    return chosen
