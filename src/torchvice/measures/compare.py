"""Compare: which model is more consistent, on the same images, and whether the difference is real."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchvice.errors import ViceError, check_kind, did_you_mean
from torchvice.measures.catalogue import DIFFERENCES, compared_label
from torchvice.measures.compared_model import WITHOUT, ComparedModel, vice_or_nan
from torchvice.measures.contents import ASSESS_STRICT, check_same_classes, check_same_kind, check_same_truth
from torchvice.measures.inference import Inference, Replicates, ends_of, number_or_none
from torchvice.measures.pairs import true_pairs
from torchvice.measures.rows import Comparison
from torchvice.measures.statements import of_linear, sentences_of
from torchvice.metrics.comparison import holm, matched_weights, paired_p, seed_difference
from torchvice.metrics.resampling import too_undefined
from torchvice.metrics.weighted import Spearman
from torchvice.samples import Samples

__all__ = ["COMPARED_OF_SEEDS", "Comparison", "compare", "compare_groups", "group_pairs"]

# Of seeds ECE-ML too: of two models alone its resampled values, which are all too high, would not say enough.
COMPARED_OF_SEEDS = (*DIFFERENCES, "ece_ml")
DOES_NOT_VARY = "The difference varies neither over the seeds nor over the images."


def compare(
    models: Mapping[str, Samples],
    *,
    quality: str = "ji",
    groups: Mapping[str, Sequence[str]] | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare models on the images that all of them were assessed on, under `strict`.

    Images are resampled for all models together, so that what two models have in common drops out of their difference;
    p-values are corrected by Holm over the pairs of models, for each measure on its own, and over the pairs of groups.

    Args:
        models: tables by name, two or more, of the same classes.
        quality: in what sense a map is good, one of `torchvice.measures.QUALITIES`.
        groups: {name: names of models that are seeds of one recipe}; differences between groups then count the seeds
            too, by Welch's t. A group of fewer than three supports no claim.
        replicates: of the bootstrap, at least 100.
        seed: of the bootstrap.

    Raises:
        ViceError: fewer than two models, tables of other classes, of other kinds of targets or without `strict`, no
            common image, targets or masks of shared images that differ, or a group that names no model.
    """
    _check(models, groups, replicates)
    about_images, common = check_same_truth(models), _common(models)
    inference = Inference(common, replicates, seed)
    found = {name: ComparedModel(name, _on(samples, common), quality, inference) for name, samples in models.items()}
    most = max(len(_assessed(samples)) for samples in models.values())
    left_out = {"images that not every model was assessed on with a mask (left out)": most - len(common)}
    pairs = list(itertools.combinations(found.values(), 2))
    measures = [m for m in (*DIFFERENCES, WITHOUT) if m != WITHOUT or all(m in one.intervals for one in found.values())]
    differences = [row for measure in measures for row in _differences(measure, pairs, inference)]
    comparison = Comparison(
        images=len(common),
        quality=quality,
        excluded={reason: count for reason, count in left_out.items() if count},
        models=[model.row() for model in found.values()],
        differences=differences,
        matched=[_matched(first, second, inference) for first, second in pairs],
        seeds=_seeds(found, groups or {}, group_pairs(groups or {}), quality=quality),
        agreement=_agreement(models, common),
        stands_out={name: model.stands_out for name, model in found.items()},
        testable={name: model.testable for name, model in found.items()},
    )
    made = {name: _headline(samples) for name, samples in models.items()}
    linear = {measure for model in found.values() for measure in model.linear}
    said = [*_unfinished(models), *about_images, *sentences_of(comparison, made, replicates), *of_linear(linear)]
    comparison.sentences.extend(said)
    return comparison


def _unfinished(models: Mapping[str, Samples]) -> list[str]:
    """A sentence for each table whose assessment is not finished."""
    return [
        f"The assessment of {name} is not finished: it has {len(samples.of_protocol('strict').images)} of "
        f"{samples.manifest['dataset'].get('images', '?')} images."
        for name, samples in models.items()
        if samples.manifest.get("finished") is False
    ]


def compare_groups(
    models: Mapping[str, Samples],
    groups: Mapping[str, Sequence[str]],
    *,
    against: str | None = None,
    quality: str = "ji",
    replicates: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The differences between recipes, each trained with several seeds, of every measure of DIFFERENCES and ECE-ML.

    Args:
        models, quality, replicates, seed: as for `compare`.
        groups: {recipe: names of the models that are its seeds}.
        against: the recipe that the others are compared with, as `second`; None: every two.

    Returns:
        Rows with `first`, `second`, `measure`, `seeds_first`, `seeds_second`, `difference`, `low`, `high`, `p`,
        `p_holm` over the pairs of recipes, of each measure, and `reason` where there is no result.

    Raises:
        ViceError: as `compare`.
    """
    _check(models, groups, replicates)
    check_same_truth(models)
    common = _common(models)
    inference = Inference(common, replicates, seed)
    found = {name: ComparedModel(name, _on(samples, common), quality, inference) for name, samples in models.items()}
    pairs = group_pairs(groups, against)
    return [row for measure in COMPARED_OF_SEEDS for row in _seeds(found, groups, pairs, measure, quality)]


def group_pairs(groups: Iterable[str], against: str | None = None) -> list[tuple[str, str]]:
    """Which groups are compared: every two, or each with the one that they are held against.

    Example:
        >>> group_pairs(["a", "b", "c"])
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
        >>> group_pairs(["a", "b", "c"], "a")
        [('b', 'a'), ('c', 'a')]
    """
    names = list(groups)
    if against is None:
        return list(itertools.combinations(names, 2))
    if against not in names:
        raise ViceError(f"`against` must be one of the groups, but is {against!r}.", did_you_mean(against, names))
    return [(name, against) for name in names if name != against]


def _check(models: Mapping[str, Samples], groups: Mapping[str, Sequence[str]] | None, replicates: int) -> None:
    way_out = "Read each: {'name': torchvice.Samples.load(FOLDER), ...}."
    check_kind("models", models, Mapping, "tables by name", way_out)
    for samples in models.values():
        check_kind("models", samples, Samples, "tables by name", way_out)
    if len(models) < 2:
        raise ViceError(
            f"A comparison needs two models or more, but {len(models)} came.", "Name a second RUN or table."
        )
    if replicates < 100:
        raise ViceError(f"`replicates` must be at least 100 for a comparison, but is {replicates}.", "Give 2000.")
    check_same_classes(models)
    for name, samples in models.items():
        if "strict" not in samples.protocols:
            raise ViceError(
                f"Models are compared under `strict`, but {name} was not assessed for it.",
                ASSESS_STRICT,
            )
    check_same_kind(models)
    _check_groups(models, groups)


def _check_groups(models: Mapping[str, Samples], groups: Mapping[str, Sequence[str]] | None) -> None:
    """Check that groups of seeds are of the models, two or more, and have no model in common."""
    seeds: dict[str, str] = {}  # the group of a model
    for group, names in (groups or {}).items():
        for name in names:
            if name not in models:
                raise ViceError(
                    f"The group {group} must name models, but has {name!r}.", f"Models: {', '.join(models)}."
                )
            if name in seeds:
                raise ViceError(
                    f"A model must be a seed of one group, once, but {name} is in {seeds[name]} and in {group}.",
                    "Leave it in one of them.",
                )
            seeds[name] = group
    if groups is not None and len(groups) == 1:
        raise ViceError(
            f"Groups are compared with each other, but only {next(iter(groups))} is given.",
            "Give another one too: --group NAME=RUN,RUN,RUN (groups={'NAME': [...], ...}).",
        )


def _common(models: Mapping[str, Samples]) -> list[str]:
    """The images that all models have."""
    common = sorted(set.intersection(*(_assessed(samples) for samples in models.values())))
    if not common:
        raise ViceError("Models are compared on the same images, but these tables have none in common.")
    return common


def _headline(samples: Samples) -> Mapping[str, Any]:
    """How the maps of a table's headline were made."""
    return samples.of_protocol("strict").settings


def _assessed(samples: Samples) -> set[str]:
    """The images that have a mask."""
    images = samples.of_protocol("strict").images
    return set(images.image_id[images.has_mask].tolist())


def _on(samples: Samples, image_ids: Sequence[str]) -> Samples:
    """The table of these images alone."""
    wanted = set(image_ids)

    def rows(column: np.ndarray) -> np.ndarray:
        return np.array([name in wanted for name in column.tolist()], dtype=bool)

    images, regions, maps = samples.images, samples.regions, samples.maps
    return Samples(
        samples.manifest,
        images.where(rows(images.image_id)),
        regions.where(rows(regions.image_id)),
        maps.where(rows(maps.image_id)),
    )


def _differences(
    measure: str, pairs: Sequence[tuple[ComparedModel, ComparedModel]], inference: Inference
) -> list[dict[str, Any]]:
    """One measure's difference for every pair of models, with Holm's correction over the pairs."""
    rows = []
    for first, second in pairs:
        row: dict[str, Any] = {"first": first.name, "second": second.name, "measure": measure}
        row |= _difference(first, second, measure, inference)
        rows.append(row)
    return _corrected(rows)


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one measure with p after Holm's correction; None where p is undefined.

    `p_at_floor`: whether a p that has the smallest possible value decides `p_holm`, which is then an upper bound.
    """
    defined = [row for row in rows if row["p"] is not None]
    for row in rows:
        row["p_holm"] = None
        row.setdefault("p_at_floor", False)
    for row, p in zip(defined, holm([row["p"] for row in defined]) if defined else [], strict=True):
        row["p_holm"] = float(p)
    bounds = {row["p_holm"] for row in defined if row["p_at_floor"]}
    for row in defined:
        row["p_at_floor"] = row["p_holm"] in bounds and row["p_holm"] < 1
    return rows


def _difference(first: ComparedModel, second: ComparedModel, measure: str, inference: Inference) -> dict[str, Any]:
    """The difference with its interval and p; else None in their place, and the reason."""
    value = first.values[measure] - second.values[measure]
    nothing = {"difference": number_or_none(value), "low": None, "high": None, "p": None}
    undefined = [model.name for model in (first, second) if not np.isfinite(model.values[measure])]
    if undefined:
        label = compared_label(measure, first.quality_name)
        return nothing | {"reason": f"{label} is undefined for {' and '.join(undefined)}."}
    drawn = first.replicates[measure] - second.replicates[measure]
    if reason := drawn.reason or too_undefined(drawn.values):
        return nothing | {"reason": reason}
    low, high = ends_of(inference.interval(value, drawn))
    p, least = paired_p(drawn.values), 2 / (1 + np.count_nonzero(~np.isnan(drawn.values)))
    return {"difference": value, "low": low, "high": high, "p": p, "p_at_floor": bool(p <= least)}


def _matched(first: ComparedModel, second: ComparedModel, inference: Inference) -> dict[str, Any]:
    """VICE of two models over pairs that are equally likely: a better model has few pairs of high loss to compare."""
    known = [~np.isnan(model.quality) for model in (first, second)]
    row: dict[str, Any] = {"first": first.name, "second": second.name}
    undefined = dict.fromkeys(("vice_first", "vice_second", "difference", "low", "high", "without_partner"))
    try:
        matching = matched_weights(first.pairs.logit[known[0]], second.pairs.logit[known[1]])
    except ViceError:
        return row | undefined
    values, replicates = [], []
    for model, rows, matched in zip((first, second), known, (matching.a, matching.b), strict=True):
        statistic = Spearman(model.pairs.logit[rows], model.quality[rows])
        values.append(float(statistic(matched[None])[0]))
        weighted = _Weighted(statistic, matched)
        replicates.append(inference.replicates(weighted, model.pairs.image_id[rows]))
    difference = values[0] - values[1]
    if not np.isfinite(difference):
        return row | undefined
    low, high = ends_of(inference.interval(difference, replicates[0] - replicates[1]))
    return row | {
        "vice_first": values[0],
        "vice_second": values[1],
        "difference": difference,
        "low": low,
        "high": high,
        "without_partner": matching.unmatched,
    }


@dataclass(frozen=True)
class _Weighted:
    """A statistic of rows that have a weight of their own beside how often they are drawn."""

    statistic: Any
    own: np.ndarray

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        return self.statistic(weights * self.own)


def _seeds(
    found: Mapping[str, ComparedModel],
    groups: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str]],
    measure: str = "vice",
    quality: str = "ji",
) -> list[dict[str, Any]]:
    """A measure between groups of seeds: Welch's t on the seeds' values, with the variance that the images add."""
    rows = []
    for first, second in pairs:
        row: dict[str, Any] = {"first": first, "second": second, "measure": measure}
        members = [[found[name] for name in groups[group]] for group in (first, second)]
        values = [[model.values[measure] for model in group] for group in members]
        row |= {"seeds_first": len(values[0]), "seeds_second": len(values[1])}
        nothing = dict.fromkeys(("difference", "low", "high", "p"))
        if not np.isfinite(values[0] + values[1]).all():
            label = compared_label(measure, quality)
            rows.append(row | nothing | {"reason": f"{label} is undefined for one of the seeds."})
            continue
        means = [_mean([model.replicates[measure] for model in group]) for group in members]
        drawn = means[0] - means[1]
        reason = drawn.reason or too_undefined(drawn.values)
        try:
            variance = 0.0 if reason else float(np.nanvar(drawn.values, ddof=1))
            result = seed_difference(values[0], values[1], variance)
        except ViceError as error:  # too few seeds
            reason = error.message
        if reason:
            rows.append(row | nothing | {"reason": reason})
            continue
        limits = {"low": number_or_none(result.interval.low), "high": number_or_none(result.interval.high)}
        row |= {"difference": number_or_none(result.difference), **limits, "p": number_or_none(result.p)}
        rows.append(row | ({"reason": DOES_NOT_VARY} if row["p"] is None else {}))
    return _corrected(rows)


def _mean(replicates: Sequence[Replicates]) -> Replicates:
    """The mean of a group's seeds in every resampling: all see the same images."""
    reason = next((one.reason for one in replicates if one.reason), "")
    return Replicates(np.mean([one.values for one in replicates], axis=0), reason=reason)


def _agreement(models: Mapping[str, Samples], common: Sequence[str]) -> dict[str, Any]:
    """VICE of every model under every explanation that all have, and whether they put the models in one order."""
    shared = set.intersection(
        *(
            {
                name
                for name, settings in samples.manifest["explanations"].items()
                if name.startswith("strict") and settings.get("role", "headline") in ("headline", "method")
            }
            for samples in models.values()
        )
    )
    if len(shared) < 2:
        return {}
    order = sorted(shared)
    table = {}
    for name, samples in models.items():
        here = _on(samples, common)
        table[name] = [number_or_none(vice_or_nan(p.logit, p.quality)) for p in (true_pairs(here, e) for e in order)]
    columns = list(zip(*table.values(), strict=True))
    same = None
    if all(value is not None for column in columns for value in column):
        orders = {tuple(np.argsort(-np.array(column, float), kind="stable").tolist()) for column in columns}
        same = len(orders) == 1
    return {"explanations": order, "vice": table, "same_order": same}
