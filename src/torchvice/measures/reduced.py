"""A table reduced to what ranks need: its numbers, and columns over images from which replicates are made."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from torchvice.errors import ViceError
from torchvice.measures.inference import images_of, too_few_images
from torchvice.measures.pairs import Pairs, true_pairs
from torchvice.measures.protocols import paper_ji
from torchvice.metrics import (
    mean_average_precision,
    multilabel_ece,
    pair_vice,
    sample_accuracy,
    vice,
)
from torchvice.metrics.association import pearson_is_reliable
from torchvice.metrics.resampling import Resampling
from torchvice.metrics.weighted import HeldOutSpearman, Pearson, Spearman, WeightedStatistic
from torchvice.metrics.weighted_scores import MeanAveragePrecision
from torchvice.samples import Images, Maps, ProtocolSamples, Regions, Samples, ShardFolder
from torchvice.samples.checks import check_rows

__all__ = ["MEASURES", "Reduced", "read_headline", "reduced", "replicates_of", "top_share"]

# In the order of the tables. ECE-ML has a value only: its replicates are biased upward.
MEASURES = ("vice", "ji", "ml_accuracy", "mean_average_precision", "loss", "ece_ml")
COLUMNS = ("image_id", "explanation", "label", "mask_pixels", "predicted", "intersection")
OF_IMAGES = ("image_id", "view", "height", "width", "has_mask", "targets", "logits")
VALUES = 2**24  # float64 of a block of weights: 128 MiB


@dataclass(frozen=True)
class Reduced:
    """A model's numbers under one protocol, and what its replicates are made of.

    Attributes:
        values: {measure: value}; NaN where it is undefined.
        undefined: {measure: the reason why it has no value, or too few images to resample it}.
        means: {measure: (2, N) numerator and denominator of each image}.
        linear: {measure: (N,) derivative by the weight of each image}.
        exact: {measure: (its statistic, the image of each row (P,), a factor)}.
        images, masked, pairs: how many images, images with a mask, and true pairs (0 under `paper`).
        truth: digest of ids, targets, sizes and masks. pictures: digest of the image files, "" where it is not known.
        facts: what else the row of the model says, see `_facts`.
        influence: (N,) derivative of the measure that ranks by the weight of each image, of sum 0; empty if undefined.
    """

    values: dict[str, float]
    undefined: dict[str, str]
    images: int
    masked: int
    pairs: int
    truth: str
    pictures: str
    facts: dict[str, Any]
    influence: np.ndarray = field(default_factory=lambda: np.zeros(0))
    means: dict[str, np.ndarray] = field(default_factory=dict)
    linear: dict[str, np.ndarray] = field(default_factory=dict)
    exact: dict[str, tuple[WeightedStatistic, np.ndarray | None, float]] = field(default_factory=dict)

    def numbers(self) -> Reduced:
        """The same without the columns that replicates are made of."""
        return replace(self, means={}, linear={}, exact={})


def read_headline(folder: str | os.PathLike[str], protocol: str) -> Samples:
    """Read the part of a table that the headline of one protocol needs, batch by batch: a tenth of `Samples.load`.

    Returns:
        Samples without maps, histograms and the columns that are NaN until they are asked for.

    Raises:
        ViceError: no table, a damaged shard, one that its manifest lists and that is gone, or another protocol.
    """
    shards = ShardFolder(folder)
    manifest = shards.manifest()
    chosen = manifest["protocols"].get(protocol)
    if chosen is None:
        raise ViceError(f"The table was not assessed under `{protocol}`.", "Assess it with --protocol both.")
    shards.check_complete(manifest)
    if not shards.shards():
        raise ViceError(f"No finished shard in {folder}.", "Run vice assess again.")
    images = _joined(shards.stream("images", OF_IMAGES, view=chosen["view"]), lambda part: slice(None))
    regions = _joined(shards.stream("regions", COLUMNS), lambda part: part["explanation"] == chosen["explanation"])
    digests = shards.digests_of_images()
    both = [digests.get(name, ("", "")) for name in images["image_id"].tolist()]
    nothing, none = np.full(len(both), np.nan), np.zeros((len(regions["label"]), 0), np.int32)
    columns = Images(
        **images,
        **dict.fromkeys(("loss", "confidence", "accuracy", "ji"), nothing),
        image_digest=np.array([image for image, _ in both], dtype=object),
        mask_digest=np.array([mask for _, mask in both], dtype=object),
    )
    rows = Regions.of(**regions, status=regions["explanation"], inside=none, outside=none)
    check_rows(manifest, columns, rows, str(folder))
    empty = np.zeros(0, dtype=object)
    return Samples(manifest, columns, rows, Maps(empty, empty, np.zeros(0, np.int64), empty))


def _joined(batches: Any, rows: Callable[[Mapping[str, np.ndarray]], Any]) -> dict[str, np.ndarray]:
    parts = [{name: column[rows(part)] for name, column in part.items()} for part in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def reduced(samples: Samples, protocol: str, by: str = "vice", linear: Sequence[str] = ()) -> Reduced:
    """Reduce a table to its numbers under a protocol and to what their replicates are made of.

    The numbers are those of `torchvice.measure`.

    Args:
        samples: the table, whole or from `read_headline`.
        protocol: "strict" or "paper".
        by: the measure that ranks, whose influence is kept.
        linear: the measures, of `vice` and `mean_average_precision`, whose replicates are linear.

    Raises:
        ViceError: the table was not assessed under the protocol, or has no images.
    """
    part = samples.of_protocol(protocol)
    images = part.images
    if not len(images):
        raise ViceError("A model is ranked by its images, but the table has none.")
    pairs = true_pairs(samples) if protocol == "strict" else None
    found = Reduced(
        values={},
        undefined={},
        images=len(images),
        masked=int(images.has_mask.sum()),
        pairs=0 if pairs is None else len(pairs),
        truth=_digest(images, ("image_id", "height", "width", "has_mask", "targets", "mask_digest")),
        pictures="" if "" in images.image_digest.tolist() else _digest(images, ("image_digest",)),
        facts=_facts(samples, part),
    )
    if pairs is None:
        _put_paper(found, samples, part)
    else:
        _put_pairs(found, pairs, _rows(images, pairs.image_id), "vice" in linear)
    _put_predictions(found, part, "mean_average_precision" in linear)
    return replace(found, influence=_influence(found, by))


def _influence(found: Reduced, by: str) -> np.ndarray:
    """The influence of each image on the measure that ranks, whatever its replicates are."""
    if by in found.linear:
        return found.linear[by]
    if by in found.means:
        above, below = found.means[by]
        change: np.ndarray = (above - found.values[by] * below) / below.sum()
        return change
    if by not in found.exact:
        return np.zeros(0)
    statistic, rows, factor = found.exact[by]
    linear = statistic.linear()
    assert linear is not None  # its value is defined
    return factor * linear[1] if rows is None else np.bincount(rows, factor * linear[1], minlength=found.images)


def _put(found: Reduced, name: str, value: Callable[[], float], reason: str, rows: np.ndarray) -> bool:
    """Put a value of some rows, and the reason if it is undefined; return whether it can be resampled.

    `rows` are the images of these rows.
    """
    try:
        number = float(value())
    except ViceError as error:
        number, reason = math.nan, error.message
    found.values[name] = number if math.isfinite(number) else math.nan
    reason = too_few_images(images_of(rows)) if math.isfinite(number) else reason
    if reason:
        found.undefined[name] = reason
    return not reason


def _put_pairs(found: Reduced, pairs: Pairs, rows: np.ndarray, linear: bool) -> None:
    """VICE and the JI score of `strict`; `rows` are the images of the pairs."""
    if _put(found, "vice", lambda: pair_vice(pairs.logit, pairs.quality).value, "Undefined.", rows):
        if linear:
            change = Spearman(pairs.logit, pairs.quality).linear()
            assert change is not None  # its value is defined
            found.linear["vice"] = np.bincount(rows, change[1], minlength=found.images)
        else:
            statistic = HeldOutSpearman(pairs.logit, pairs.iou, pairs.fold, pairs.image_id)
            found.exact["vice"] = (statistic, rows, 1.0)
    none = "No image has a true label with a mask."
    if _put(found, "ji", lambda: pairs.quality.mean() if len(pairs) else math.nan, none, rows):
        _put_mean(found, "ji", pairs.quality, rows)


def _put_paper(found: Reduced, samples: Samples, paper: ProtocolSamples) -> None:
    """VICE and the JI score of `paper`, over the images with a mask."""
    masked = paper.images.where(paper.images.has_mask)
    loss, ji = paper.losses[paper.images.has_mask], paper_ji(samples, masked, paper.regions)
    rows = np.flatnonzero(paper.images.has_mask)
    reason = f"The JI of {int(np.isnan(ji).sum())} of {len(ji)} images is undefined."
    if _put(found, "vice", lambda: vice(loss, ji).value, reason, rows):
        found.exact["vice"] = (Pearson(-loss, ji), rows, 1.0)
        found.facts["reliable"] = pearson_is_reliable(loss)
    if _put(found, "ji", lambda: float(np.mean(ji)) if len(ji) else math.nan, reason, rows):
        _put_mean(found, "ji", ji, rows)


def _put_predictions(found: Reduced, part: ProtocolSamples, linear: bool) -> None:
    """Accuracy, mAP, the loss and ECE-ML: of all images."""
    images, strict, probabilities = part.images, part.protocol == "strict", part.probabilities
    protocol: Literal["paper", "strict"] = "strict" if strict else "paper"
    everything = np.arange(len(images))
    accuracy = sample_accuracy(part.predicted, images.targets)
    known = ~np.isnan(accuracy)
    undefined = "An image with neither label nor prediction has no accuracy (0/0)."
    usable = known.any() if strict else known.all()
    if _put(found, "ml_accuracy", lambda: accuracy[known].mean() if usable else math.nan, undefined, everything[known]):
        _put_mean(found, "ml_accuracy", accuracy[known], everything[known])
    ap = lambda: mean_average_precision(probabilities, images.targets, protocol)  # noqa: E731
    if _put(found, "mean_average_precision", ap, "No image shows any class.", everything):
        statistic = MeanAveragePrecision(probabilities, images.targets)
        # Under `paper` classes without images count 0: the replicates of the others are scaled alike.
        factor = 1.0 if strict else float(images.targets.any(axis=0).mean())
        if linear:
            found.linear["mean_average_precision"] = factor * statistic.linear()[1]
        else:
            found.exact["mean_average_precision"] = (statistic, None, factor)
    if _put(found, "loss", lambda: part.losses.mean(), "A loss is infinite.", everything):
        _put_mean(found, "loss", part.losses, everything)
    ece = lambda: multilabel_ece(probabilities, images.targets, protocol=protocol)  # noqa: E731
    _put(found, "ece_ml", ece, undefined, everything)


def _put_mean(found: Reduced, name: str, values: np.ndarray, rows: np.ndarray) -> None:
    sums = np.bincount(rows, values, minlength=found.images), np.bincount(rows, minlength=found.images)
    found.means[name] = np.stack(sums)


def _rows(images: Images, image_id: np.ndarray) -> np.ndarray:
    place = {name: row for row, name in enumerate(images.image_id.tolist())}
    return np.array([place[name] for name in image_id.tolist()], dtype=np.int64)


def _digest(images: Images, names: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        column = getattr(images, name)
        if column.dtype == object:
            digest.update("\n".join(column.tolist()).encode("utf-8", "surrogateescape"))
        else:
            digest.update(np.ascontiguousarray(column.astype(np.int64)).tobytes())
    return digest.hexdigest()


def _facts(samples: Samples, part: ProtocolSamples) -> dict[str, Any]:
    """What a row says beside its numbers: `network`, `method`, `img_size`, `interpolation`, and `made`, the settings of
    its maps; of exclusive targets `top1` and `top5`, shares of the images."""
    manifest, settings = samples.manifest, part.settings
    made_by, view = manifest.get("made_by") or {}, manifest.get("map_settings") or {}
    facts = {
        "network": str(made_by.get("network") or manifest["model"].get("type") or ""),
        "method": str(settings.get("method") or ""),
        "img_size": view.get("view_size"),
        "interpolation": view.get("interpolation"),
        "made": {
            name: value for name, value in settings.items() if name not in ("role", "interventions", "faithfulness")
        },
    }
    if samples.exclusive:
        logits, targets = part.images.logits, part.images.targets
        facts |= {f"top{top}": top_share(logits, targets, top) for top in (1, 5)}
    return facts


def top_share(logits: np.ndarray, targets: np.ndarray, top: int) -> float:
    """The share of images whose label is among the `top` largest logits, in [0, 1]; ties count against it.

    Args:
        logits: (N, C). targets: (N, C), one 1 a row.

    Example:
        >>> top_share(np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0]]), np.array([[0, 1, 0], [1, 0, 0]]), 2)
        1.0
    """
    own = np.where(targets > 0, logits, -math.inf).max(1, keepdims=True)
    return float(((logits >= own).sum(1) <= min(top, logits.shape[1])).mean())


def replicates_of(models: Sequence[Reduced], measures: Sequence[str], resampling: Resampling) -> np.ndarray:
    """The replicates of several models, by the draws that all of them share.

    Means and linear replicates of all models are one product of the weights with their columns.

    Args:
        models: of the same N images.
        measures: names among MEASURES, without `ece_ml`.
        resampling: of the N images.

    Returns:
        (models, measures, B) float64; NaN where a replicate, or the value itself, is undefined.
    """
    result = np.full((len(models), len(measures), resampling.replicates), np.nan)
    columns: list[np.ndarray] = []
    places: list[tuple[int, int, int, bool]] = []  # model, measure, first column, whether a mean
    for at, model in enumerate(models):
        for place, name in enumerate(measures):
            if name in model.exact:
                statistic, rows, factor = model.exact[name]
                result[at, place] = factor * resampling.replicates_of(statistic, rows, linear=False)
            elif name in model.means or name in model.linear:
                mean = name in model.means
                places.append((at, place, len(columns), mean))
                columns += list(model.means[name]) if mean else [model.linear[name]]
    if not columns:
        return result
    table = np.stack(columns, axis=1)
    for first in range(0, resampling.replicates, step := max(1, VALUES // resampling.images)):
        last = min(first + step, resampling.replicates)
        sums = resampling.sums(first, last, table)
        for at, place, column, mean in places:
            if mean:
                with np.errstate(divide="ignore", invalid="ignore"):
                    result[at, place, first:last] = sums[:, column] / sums[:, column + 1]
            else:
                value, total = models[at].values[measures[place]], float(table[:, column].sum())
                result[at, place, first:last] = value + sums[:, column] - total
    return result
