"""Rank: many models on the same images, with confidence sets of their ranks from one joint bootstrap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from torchvice.errors import ViceError, did_you_mean
from torchvice.measures.catalogue import compared_label, measure_of
from torchvice.measures.inference import LEVEL, number_or_none
from torchvice.measures.rank_sentences import sentences_of_ranking
from torchvice.measures.reduced import MEASURES, Reduced, replicates_of
from torchvice.metrics.pareto import on_front, residuals_given
from torchvice.metrics.rank_sets import RankSets, rank_sets, reach
from torchvice.metrics.resampling import Resampling, too_undefined
from torchvice.metrics.weighted import HeldOutSpearman
from torchvice.samples.frames import pandas_frame, polars_frame

__all__ = ["BY", "Ranking", "check_by", "linear_measures", "ranked", "ranking_label"]

BY = tuple(name for name in MEASURES if name != "ece_ml")
LOWER = ("loss", "ece_ml")  # lower is better
CHOOSES = ("vice", "mean_average_precision")  # again in a replicate: thresholds and ranks
EXACT_VICE = 2**31  # pairs times replicates times models: with more, exact replicates take over a minute of a core
EXACT_MAP = 2**31  # images times classes times replicates times models: with more they take half a minute
FEWEST_GIVEN = 5  # models; with fewer accuracy predicts nothing
SCHEMA = 1


@dataclass(frozen=True)
class Ranking:
    """Models in the order of their ranks; plain rows, NaN nowhere (None where undefined).

    Attributes:
        protocol: "strict" or "paper". by: the measure that ranks. accuracy: the one that VICE is set against.
        images, masked, pairs: how many images, images with a mask, and true pairs (0 under `paper`).
        level, replicates, seed: of the joint bootstrap.
        bootstrap: {measure: "exact" or "linear"}, how its replicates were made.
        critical: {name: how many standard errors a simultaneous interval reaches}; `rank` for the differences of two
            models.
        told_apart: how many pairs of models the rank sets tell apart.
        models: a row each with `name`, `path`, `rank`, `rank_low` and `rank_high` (the simultaneous set), `alone_low`
            and `alone_high` (for this model alone), each measure with `_low` and `_high` (simultaneous),
            `given_accuracy` with ends (VICE beyond what accuracy predicts) and `predicted`, `on_front` and
            `front_share`, `candidate` and `sure` (of the best `top`), `network`, `method`, `img_size`,
            `interpolation`, `top1`, `top5`, and `undefined` {measure: why it has no value, or no interval}. Models
            without the number that ranks, or without its replicates, come last, with the rank None.
        left_out: tables that could not be read, with `name`, `path` and `reason`.
        top: K of the best K; None: not asked for.
        sentences: what is established and what is not.
    """

    protocol: str
    by: str
    accuracy: str
    images: int
    masked: int
    pairs: int
    level: float
    replicates: int
    seed: int
    bootstrap: dict[str, str]
    critical: dict[str, float]
    told_apart: int
    models: list[dict[str, Any]]
    left_out: list[dict[str, str]] = field(default_factory=list)
    top: int | None = None
    sentences: list[str] = field(default_factory=list)

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """The rows that have a rank."""
        return [row for row in self.models if row["rank"] is not None]

    def to_json(self) -> dict[str, Any]:
        """The fields of `vice rank --json`."""
        return {"schema": SCHEMA, **{f.name: getattr(self, f.name) for f in fields(self)}}

    def to_pandas(self) -> Any:
        """A data frame with a row for each model, in the order of the ranks.

        Raises:
            ViceError: pandas is not installed.
        """
        return pandas_frame(self._columns())

    def to_polars(self) -> Any:
        """The same as `to_pandas`, as a polars.DataFrame.

        Raises:
            ViceError: polars is not installed.
        """
        return polars_frame(self._columns())

    def _columns(self) -> dict[str, Any]:
        names = [name for name in self.models[0] if name != "undefined"]
        return {name: [row[name] for row in self.models] for name in names}

    def __repr__(self) -> str:
        best = ", ".join(row["name"] for row in self.ranked[:3])
        return f"Ranking({len(self.models)} models, {self.images} images, by {self.protocol}.{self.by}: {best})"


def ranking_label(name: str, protocol: str) -> str:
    """The label of a column, such as `VICE (strict)`.

    Example:
        >>> [ranking_label(name, "paper") for name in ("vice", "mean_average_precision", "loss")]
        ['VICE (paper)', 'mAP (paper)', 'Loss (paper)']
    """
    if name == "loss":
        return f"{compared_label(name)} ({protocol})"
    if (protocol, name) == ("paper", "mean_average_precision"):
        return measure_of("classification.mean_average_precision").full_label
    return measure_of(f"{protocol}.{name}").full_label


def check_by(by: str) -> None:
    """Check the name of the measure that ranks.

    Raises:
        ViceError: another name, or `ece_ml`.
    """
    if by == "ece_ml":
        raise ViceError(
            "Models must be ranked by a measure that has replicates, but ECE-ML has none: resampling raises it.",
            f"Known: {', '.join(BY)}.",
        )
    if by not in BY:
        raise ViceError(f"Models must be ranked by a known measure, but `by` is {by!r}.", did_you_mean(by, BY))


def linear_measures(
    bootstrap: str, protocol: str, *, models: int, pairs: int, images: int, classes: int, replicates: int
) -> tuple[str, ...]:
    """The measures whose replicates are linear: all that can be with "linear", none with "exact", by size with "auto".

    Raises:
        ViceError: another `bootstrap`.
    """
    if bootstrap not in ("auto", "exact", "linear"):
        raise ViceError(
            f"`bootstrap` must be 'auto', 'exact' or 'linear', but is {bootstrap!r}.", "Give 'auto': the size decides."
        )
    work = {"mean_average_precision": images * classes * replicates * models > EXACT_MAP}
    if protocol == "strict":
        one = pairs * replicates
        work["vice"] = one * models > EXACT_VICE or one > HeldOutSpearman.most_work
    return tuple(name for name, much in work.items() if bootstrap == "linear" or (much and bootstrap == "auto"))


def ranked(
    models: Mapping[str, Reduced],
    replicates: np.ndarray,
    *,
    protocol: str,
    by: str = "vice",
    top: int | None = None,
    seed: int = 0,
    linear: Sequence[str] = (),
    paths: Mapping[str, str] | None = None,
    left_out: Sequence[Mapping[str, str]] = (),
) -> Ranking:
    """Rank models by one number, with confidence sets of the ranks.

    Args:
        models: the reduced tables by name, of the same images.
        replicates: (m, len(BY), B), by the same draws, from `replicates_of`.
        protocol: "strict" or "paper".
        by: one of BY.
        top: K of the best K.
        seed: of the draws.
        linear: the measures whose replicates are linear.
        paths: of the tables by name.
        left_out: tables that could not be read: `name`, `path`, `reason`.

    Raises:
        ViceError: fewer than two models have the number that ranks, or `top` is not between 1 and their number.
    """
    check_by(by)
    found = _Numbers(models, replicates)
    use = found.usable(by)
    _check_enough(found, by, protocol, top)
    sets = _rank_sets(found, by, linear, seed)
    first = next(iter(models.values()))
    accuracy = "ml_accuracy" if "top1" in first.facts else "mean_average_precision"  # "top1": targets are exclusive
    rows, critical = _rows(found, paths or {}), {"rank": sets.critical}
    _put_ranks(rows, use, sets, top)
    for measure in BY:
        critical |= _put_intervals(rows, found, measure)
    critical |= _put_given(rows, found, accuracy)
    ranking = Ranking(
        protocol=protocol,
        by=by,
        accuracy=accuracy,
        images=first.images,
        masked=first.masked,
        pairs=first.pairs,
        level=LEVEL,
        replicates=replicates.shape[2],
        seed=seed,
        bootstrap={measure: "linear" if measure in linear else "exact" for measure in BY},
        critical=critical,
        told_apart=sets.pairs,
        models=sorted(rows, key=lambda row: (row["rank"] or math.inf, row["name"])),
        left_out=[dict(row) for row in left_out],
        top=top,
    )
    labels = {name: ranking_label(name, protocol) for name in MEASURES}
    ranking.sentences.extend(sentences_of_ranking(ranking, labels, models))
    return ranking


def _check_enough(found: _Numbers, by: str, protocol: str, top: int | None) -> None:
    """Check that there are models to rank, and more than the best `top`.

    Raises:
        ViceError: fewer than two have the number, or `top` is not between 1 and their number.
    """
    count, values = int(found.usable(by).sum()), int(np.isfinite(found.values[by]).sum())
    if count < 2:
        others = [name for name in BY if found.usable(name).sum() >= 2]
        what = f"{ranking_label(by, protocol)}{' that has an interval' if values > 1 else ''}"
        rest = "Leave out the models without any number." if values < 2 else "Assess the models on more images."
        raise ViceError(
            f"Ranks need two models or more with a {what}, but {count} of {len(found.models)} have one."
            f"{_first_reason(found, by)}",
            f"Rank by another measure: --by {others[0]}." if others else rest,
        )
    if top is not None and not 1 <= top < count:
        raise ViceError(
            f"The best K must be fewer than the {count} ranked models, but `top` is {top}.",
            f"Give a number from 1 to {count - 1}.",
        )


def _rank_sets(found: _Numbers, by: str, linear: Sequence[str], seed: int) -> RankSets:
    """The rank sets of the models that have the number that ranks."""
    use, sign = found.usable(by), -1.0 if by in LOWER else 1.0
    used = [model for model, with_number in zip(found.models.values(), use, strict=True) if with_number]
    influence, drawn = np.stack([model.influence for model in used]), found.filled(by, use)
    by_influence = None
    if by in CHOOSES and by not in linear:
        resampling = Resampling(used[0].images, drawn.shape[1], seed)
        of_influence = [replace(model.numbers(), linear={by: model.influence}) for model in used]
        by_influence = sign * replicates_of(of_influence, (by,), resampling)[:, 0]
    return rank_sets(sign * found.values[by][use], sign * drawn, sign * influence, LEVEL, linear=by_influence)


class _Numbers:
    """The values (m,) and replicates (m, B) of every measure, in the order of the models.

    `reasons`: of each measure and model, why it has no value or too few replicates, "" if it has both.
    """

    def __init__(self, models: Mapping[str, Reduced], replicates: np.ndarray) -> None:
        self.models = models
        self.values = {name: np.array([model.values[name] for model in models.values()]) for name in MEASURES}
        self.replicates = {name: replicates[:, place] for place, name in enumerate(BY)}
        self.reasons = {
            name: [
                model.undefined.get(name) or too_undefined(drawn)
                for model, drawn in zip(models.values(), self.replicates[name], strict=True)
            ]
            for name in BY
        }

    def usable(self, name: str) -> np.ndarray:
        """(m,) bool: the value is defined, and at most 5 % of the replicates are not."""
        return np.isfinite(self.values[name]) & (np.array(self.reasons[name]) == "")

    def filled(self, name: str, use: np.ndarray) -> np.ndarray:
        """The replicates of usable models; an undefined one takes the mean of the others."""
        drawn = self.replicates[name][use]
        return np.where(np.isnan(drawn), np.nanmean(drawn, axis=1, keepdims=True), drawn)


def _first_reason(found: _Numbers, by: str) -> str:
    reasons = zip(found.models, found.reasons[by], strict=True)
    return next((f" {name}: {reason}" for name, reason in reasons if reason), "")


def _rows(found: _Numbers, paths: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    for place, (name, model) in enumerate(found.models.items()):
        row: dict[str, Any] = {"name": name, "path": paths.get(name, "")}
        row |= dict.fromkeys(("rank", "rank_low", "rank_high", "alone_low", "alone_high"))
        for measure in MEASURES:
            row[measure] = number_or_none(model.values[measure])
            if measure in BY:
                row |= {f"{measure}_low": None, f"{measure}_high": None}
        row |= dict.fromkeys(("predicted", "given_accuracy", "given_accuracy_low", "given_accuracy_high"))
        row |= {"on_front": None, "front_share": None, "candidate": None, "sure": None}
        row |= {key: model.facts.get(key) for key in ("network", "method", "img_size", "interpolation", "top1", "top5")}
        reasons = {measure: found.reasons[measure][place] for measure in BY}
        undefined = {measure: reason for measure, reason in reasons.items() if reason}
        rows.append(row | {"undefined": model.undefined | undefined})
    return rows


def _put_ranks(rows: list[dict[str, Any]], use: np.ndarray, sets: RankSets, top: int | None) -> None:
    names = {
        "rank": "rank",
        "rank_low": "low",
        "rank_high": "high",
        "alone_low": "alone_low",
        "alone_high": "alone_high",
    }
    for place, at in enumerate(np.flatnonzero(use).tolist()):
        rows[at] |= {key: int(getattr(sets, name)[place]) for key, name in names.items()}
        if top is not None:
            rows[at] |= {"candidate": bool(sets.among(top)[place]), "sure": bool(sets.surely_among(top)[place])}


def _put_intervals(rows: list[dict[str, Any]], found: _Numbers, measure: str) -> dict[str, float]:
    """Put simultaneous intervals of a measure; return how many standard errors they reach."""
    use = found.usable(measure)
    if not use.any():
        return {}
    critical, errors = reach(found.filled(measure, use), LEVEL)
    for at, error in zip(np.flatnonzero(use).tolist(), errors.tolist(), strict=True):
        low, high = _limits(measure, found.values[measure][at], critical * error)
        rows[at] |= {f"{measure}_low": low, f"{measure}_high": high}
    return {measure: critical}


def _limits(measure: str, value: float, distance: float) -> tuple[float, float]:
    """The ends of an interval on the scale on which the measure has no bounds: artanh, arcsine of the root, logarithm.

    Example:
        >>> [round(end, 3) for end in _limits("vice", 0.9, 0.1)], _limits("ji", 1.0, 0.0)
        ([0.738, 0.964], (1.0, 1.0))
    """
    if not distance:
        return value, value
    if measure == "loss":
        return value * math.exp(-distance / value), value * math.exp(distance / value)
    if measure == "vice":
        middle = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
        room = min(distance / max(1 - value * value, 1e-12), 50.0)
        return math.tanh(middle - room), math.tanh(middle + room)
    value = min(max(value, 1e-12), 1 - 1e-12)
    middle, room = math.asin(math.sqrt(value)), distance / (2 * math.sqrt(value * (1 - value)))
    return math.sin(max(0.0, middle - room)) ** 2, math.sin(min(math.pi / 2, middle + room)) ** 2


def _put_given(rows: list[dict[str, Any]], found: _Numbers, accuracy: str) -> dict[str, float]:
    """Put what VICE is beyond what accuracy predicts, and the Pareto front of the two."""
    use = found.usable("vice") & found.usable(accuracy)
    places = np.flatnonzero(use).tolist()
    if len(places) < 2:
        return {}
    across, up = (np.vstack([found.values[name][use], found.filled(name, use).T]) for name in (accuracy, "vice"))
    front = on_front(across, up)
    for place, at in enumerate(places):
        rows[at] |= {"on_front": bool(front[0, place]), "front_share": float(front[1:, place].mean())}
    if len(places) < FEWEST_GIVEN or np.ptp(across[0]) == 0:
        return {}
    left, predicted = residuals_given(across, up)
    critical, errors = reach(left[1:].T, LEVEL)
    for place, at in enumerate(places):
        value, distance = float(left[0, place]), float(critical * errors[place])
        rows[at] |= {"given_accuracy": value, "predicted": float(predicted[place])}
        rows[at] |= {"given_accuracy_low": value - distance, "given_accuracy_high": value + distance}
    return {"given_accuracy": critical}
