"""What a class is found by instead: groups of what its maps peak on outside the object."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from torchvice.measures.inference import LEVEL
from torchvice.measures.pairs import Pairs
from torchvice.measures.wording import decimals

__all__ = ["MOST_PAIRS", "Group", "looked_at", "sentence"]

MOST_PAIRS = 500  # of a class; of more, these are drawn by their ids
FEWEST, LEAST_SHARE = 5, 0.1  # of a group: pairs, and share of the pairs it was made of
# Two peaks are alike above this quantile of the cosines between peaks of the class and of other classes. In simulated
# worlds of 1 to 3 groups among noise, average linkage at this threshold has an adjusted Rand index of 0.96 on average
# and 0.74 at least; without centring 0.80 and 0.00. HDBSCAN, DBSCAN and a fixed threshold fall to 0 in some, too.
ALIKE = 0.975
FEWEST_OTHERS, MOST_OTHERS, FIXED = 20, 2000, 0.5  # with fewer other peaks the threshold is this cosine
TOP = 1 - 1e-6  # of the normalised map: its highest value
SPOT, LEAST_OF_SPOT = 0.1, 0.25  # of the image's sides, between neighbours; share of the group
# Three quarters of the peaks within this distance of their median point: of five peaks anywhere, in 5 of 100 groups.
NEAR, MOST_NEAR = 0.25, 0.75
VARYING = "varying places"
_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "", "right")
_MIDDLES = {(0, 1): "top", (1, 0): "left", (1, 1): "centre", (1, 2): "right", (2, 1): "bottom"}


@dataclass(frozen=True)
class Group:
    """Peaks outside the object that are alike to the network, of found pairs of one class. None: undefined.

    `images` (n,) ids, the most typical first, and `peaks` (n,) their places (y, x) in [0, 1] from the top left;
    `place`, such as "lower left", or "varying places"; `y` and `x`, the median place; `side`, of a patch, as a
    share of the image's; `spread`, the distance from it
    that three quarters of the peaks keep. `count` n; `found`, the class's found pairs; `share` of them, an estimate
    where `drawn` < `peaking`: of `concerned` pairs `peaking` have a map that is highest outside the object, or are
    found without it; `drawn` of these were grouped.

    `effect`: the median of how much more the margin falls with a patch at the peak replaced than with one elsewhere;
    `effect_low` and `effect_high`: its 95 % interval, from order statistics; of `covered` pairs, of which `lost` are no
    longer found with the peak covered, `lost_elsewhere` with the other patch.
    """

    images: tuple[str, ...]
    peaks: tuple[tuple[float, float], ...]
    place: str
    y: float
    x: float
    side: float | None
    spread: float
    count: int
    found: int
    share: float
    drawn: int
    peaking: int
    concerned: int
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    covered: int
    lost: int
    lost_elsewhere: int

    @property
    def matters(self) -> bool:
        """Whether covering the peak lowers the margin more than covering another patch: the interval lies above 0."""
        return self.effect_low is not None and self.effect_low > 0

    def to_json(self, class_name: str) -> dict[str, Any]:
        """Return every field, and the `sentence` with the name of the class."""
        return asdict(self) | {"sentence": sentence(self, class_name)}


def looked_at(pairs: Pairs, class_index: int, concerned: np.ndarray) -> list[Group]:
    """Group what the maps of a class peak on outside the object, by what the network's layer holds there.

    Only found pairs count. Peaks are grouped by the cosine of their features (average linkage), at a threshold that the
    peaks of other classes give; then by place, where many of a group lie close together. Groups of fewer than 5 pairs
    or a tenth of the pairs are left out: `drawn` minus the counts of all groups. Needs the columns of interventions.

    Args:
        pairs: the true pairs of all classes.
        class_index: the class.
        concerned: (P,) bool, the pairs whose map lies elsewhere, or that are found without the object.

    Returns:
        The groups, those whose covering matters first, then by count. The order of the pairs changes nothing.

    References:
        Lapuschkin et al., Unmasking Clever Hans predictors, 2019, which groups whole maps.
    """
    regions = pairs.regions
    if regions is None:
        return []
    features, peaks = regions.peak_features, np.stack([regions.peak_y, regions.peak_x], axis=1)
    known = np.isfinite(features).all(axis=1) & np.isfinite(peaks).all(axis=1) & pairs.predicted
    peaking = known | (regions.peak_height >= TOP) | (regions.without_object > 0)
    own = (pairs.class_index == class_index) & pairs.predicted
    wanted = own & np.asarray(concerned, bool)
    rows = _by_id(pairs, np.flatnonzero(wanted & known))
    drawn = _drawn(pairs, rows)
    others = _by_id(pairs, np.flatnonzero((pairs.class_index != class_index) & known))
    others = others[:: max(1, math.ceil(len(others) / MOST_OTHERS))]
    fewest = max(FEWEST, math.ceil(LEAST_SHARE * len(drawn)))
    counts = {
        "found": int(own.sum()),
        "drawn": len(drawn),
        "peaking": int((wanted & peaking).sum()),
        "concerned": int(wanted.sum()),
    }
    groups = []
    for alike in _alike(features[drawn], features[others], fewest):
        for spot in _spots(peaks[drawn[alike]], fewest):
            groups.append(_group(pairs, _typical_first(features, drawn[alike[spot]]), counts))
    return sorted(groups, key=lambda group: (not group.matters, -group.count, group.images))


def _by_id(pairs: Pairs, rows: np.ndarray) -> np.ndarray:
    """The rows by image id and class."""
    return rows[np.lexsort((pairs.class_index[rows], pairs.image_id[rows]))]


def _drawn(pairs: Pairs, rows: np.ndarray) -> np.ndarray:
    """At most MOST_PAIRS rows, those of the smallest hashes of their ids."""
    if len(rows) <= MOST_PAIRS:
        return rows
    hashes = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in pairs.image_id[rows]]
    return rows[sorted(sorted(range(len(rows)), key=hashes.__getitem__)[:MOST_PAIRS])]


def _unit(features: np.ndarray) -> np.ndarray:
    """The features as float64 vectors of length 1."""
    features = features.astype(float)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(float).tiny)


def _alike(features: np.ndarray, others: np.ndarray, fewest: int) -> Iterator[np.ndarray]:
    """The rows of each group of at least `fewest` features that are alike, without what all others have in common."""
    from sklearn.cluster import AgglomerativeClustering

    if len(features) < fewest:
        return
    least, features = FIXED, _unit(features)
    if len(others) >= FEWEST_OTHERS:
        others = _unit(others)
        common = others.mean(axis=0)
        features = _unit(features - common)
        least = float(np.quantile(features @ _unit(others - common).T, ALIKE))
    clusterer = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=max(1 - least, 1e-9)
    )
    labels = clusterer.fit_predict(np.clip(1 - features @ features.T, 0, None))
    for label in range(labels.max() + 1):
        rows = np.flatnonzero(labels == label)
        if len(rows) >= fewest:
            yield rows


def _spots(peaks: np.ndarray, fewest: int) -> Iterator[np.ndarray]:
    """The rows of each spot where at least a quarter of the peaks lie close together, then those of the rest.

    A layer near the output may hold the same at all that speaks for a class; then only the place tells peaks apart.
    """
    from sklearn.cluster import DBSCAN

    labels = DBSCAN(eps=SPOT, min_samples=max(fewest, math.ceil(LEAST_OF_SPOT * len(peaks)))).fit_predict(peaks)
    for label in [*range(labels.max() + 1), -1]:
        rows = np.flatnonzero(labels == label)
        if len(rows) >= fewest:
            yield rows


def _typical_first(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows by how alike they are to the mean of all."""
    unit = _unit(features[rows])
    return rows[np.argsort(-(unit @ unit.mean(axis=0)).round(9), kind="stable")]


def _group(pairs: Pairs, rows: np.ndarray, counts: dict[str, int]) -> Group:
    regions = pairs.regions
    assert regions is not None
    peaks = np.stack([regions.peak_y[rows], regions.peak_x[rows]], axis=1).astype(float)
    middle = np.median(peaks, axis=0)
    spread = float(np.quantile(np.hypot(*(peaks - middle).T), MOST_NEAR))
    at_peak, elsewhere = regions.peak_covered[rows], regions.elsewhere_covered[rows]
    covered = np.isfinite(at_peak) & np.isfinite(elsewhere)
    falls = (elsewhere - at_peak)[covered]
    low, high = _median_interval(falls)
    sides = regions.peak_side[rows][~np.isnan(regions.peak_side[rows])]
    share = len(rows) / counts["found"] * counts["peaking"] / counts["drawn"]
    return Group(
        images=tuple(pairs.image_id[rows].tolist()),
        peaks=tuple((y, x) for y, x in peaks.round(4).tolist()),
        place=place_of(*middle.tolist()) if spread <= NEAR else VARYING,
        y=float(middle[0]),
        x=float(middle[1]),
        side=float(np.median(sides)) if len(sides) else None,
        spread=spread,
        count=len(rows),
        share=share,
        **counts,
        effect=float(np.median(falls)) if len(falls) else None,
        effect_low=low,
        effect_high=high,
        covered=len(falls),
        lost=int((at_peak[covered] <= 0).sum()),
        lost_elsewhere=int((elsewhere[covered] <= 0).sum()),
    )


def place_of(y: float, x: float) -> str:
    """Name a place of the image by thirds of its sides.

    Example:
        >>> place_of(0.9, 0.1), place_of(0.5, 0.5), place_of(0.1, 0.5)
        ('lower left', 'centre', 'top')
    """
    row, column = min(int(3 * y), 2), min(int(3 * x), 2)
    return _MIDDLES.get((row, column)) or f"{_ROWS[row]} {_COLUMNS[column]}"


def _median_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """The interval of a median from order statistics (inverted sign test); None for both below six values."""
    from scipy.special import bdtr  # scipy.stats takes a second to import

    # The smallest count of values below the median whose probability, with all smaller ones, reaches the level.
    below = int(np.searchsorted(bdtr(np.arange(len(values)), len(values), 0.5), (1 - LEVEL) / 2))
    if not below:
        return None, None
    ordered = np.sort(values)
    return float(ordered[below - 1]), float(ordered[-below])


def sentence(group: Group, class_name: str) -> str:
    """Say what the group is, its share, and what covering it does.

    Example:
        "seven: a patch at the lower left in 94 % of its found labels (82 of 87). Covering it loses 71 of 82,
        covering a patch elsewhere 2 of 82 (the margin falls by 4.21 more, median, 95 % interval 3.90 to 4.55)."
    """
    varying = group.place == VARYING
    what = f"patches at {VARYING}, alike to the network," if varying else f"a patch at the {group.place}"
    percent = f"{100 * group.share:.0f} %"
    if group.drawn < group.peaking:
        share = f"about {percent} of its {group.found} found labels ({group.count} of {group.drawn} drawn)"
    else:
        share = f"{percent} of its found labels ({group.count} of {group.found})"
    return f"{class_name}: {what} in {share}. {_effect(group)}"


def _effect(group: Group) -> str:
    them = "them" if group.place == VARYING else "it"
    if not group.covered:
        return f"What covering {them} does was not measured."
    if group.effect is None or group.effect_low is None or group.effect_high is None:
        return f"Covering {them} was measured on {group.covered} pairs, too few to tell what it does."
    interval = f"95 % interval {decimals(group.effect_low, 2)} to {decimals(group.effect_high, 2)}"
    if group.matters:
        return (
            f"Covering {them} loses {group.lost} of {group.covered}, covering a patch elsewhere "
            f"{group.lost_elsewhere} of {group.covered} (the margin falls by {decimals(group.effect, 2)} more, median, "
            f"{interval})."
        )
    return (
        f"Covering {them} is not shown to matter more than covering a patch elsewhere (difference of the fall of the "
        f"margin {decimals(group.effect, 2)}, median, {interval}, {group.covered} pairs)."
    )
