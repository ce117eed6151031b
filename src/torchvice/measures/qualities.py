"""Qualities of a map. VICE can be computed with any of them in place of the IoU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from torchvice.errors import ViceError, did_you_mean
from torchvice.measures.pairs import Pairs
from torchvice.metrics.faithfulness import normalised_faithfulness
from torchvice.metrics.thresholds import HeldOut
from torchvice.samples import Regions

__all__ = ["IOU_CUTOFF", "QUALITIES", "Quality", "check_quality", "quality_of"]

# The loosest of the three (0.3, 0.5, 0.7) that MaxBoxAccV2 asks of a localisation (Choe et al., CVPR 2020).
IOU_CUTOFF = 0.3


@dataclass(frozen=True)
class Quality:
    """A quality of a pair's map: its `meaning`, and `of`, a function from pairs to (P,) numbers, higher is better.

    `label` is its name in a sentence. `says_where`: it is a share in [0, 1] that rises as the map comes to lie on the
    object, and from `cutoff` on the map lies there; faithfulness knows no object: it is in [-1, 1], and 0 is chance.
    """

    meaning: str
    of: Callable[[Pairs], np.ndarray]
    label: str
    cutoff: float = IOU_CUTOFF
    says_where: bool = True


def quality_of(pairs: Pairs, name: str) -> np.ndarray:
    """Return the named quality of each pair (P,), higher is better; NaN where it is undefined.

    Args:
        pairs: from `true_pairs`.
        name: one of QUALITIES.

    Raises:
        ViceError: an unknown name, pairs without their table's rows, or a quality that the table does not hold.
    """
    check_quality(name)
    if name == "ji":
        return pairs.quality
    values = QUALITIES[name].of(pairs)
    if len(values) and np.isnan(values).all():
        computed = name in ("insertion", "deletion", "road") and not np.isnan(getattr(_regions(pairs), name)).all()
        if computed and name == "road" and np.isnan(_regions(pairs).p_blank).all():
            raise ViceError(
                "`road` needs the probability of blank images, but the table has it for none of its pairs: an earlier "
                "version measured ROAD without it.",
                "Repeat the command that measured ROAD (vice assess ... --faithfulness road): it completes the table.",
            )
        if computed:
            other, choice = ("another canvas", "canvas=mean") if name == "insertion" else ("another end", "blank=blur")
            raise ViceError(
                f"`{name}` is undefined for all {len(pairs)} pairs: blanking an image moves no probability by 0.05.",
                f"The model says the same of anything: {other} may help "
                f"(vice assess ... --faithfulness {name},{choice}).",
            )
        ways = {
            "box_iou": "Assess data with boxes.",
            **dict.fromkeys(
                ("insertion", "deletion", "road"), f"Assess the model with it: vice assess ... --faithfulness {name}."
            ),
        }
        raise ViceError(
            f"The table must hold `{name}` of its pairs, but has it for none of {len(pairs)}.", ways.get(name, "")
        )
    return values


def check_quality(name: str) -> None:
    """Raise a ViceError for an unknown quality."""
    if name not in QUALITIES:
        raise ViceError(f"`quality` must be a known one, but is {name!r}.", did_you_mean(name, QUALITIES))


def _regions(pairs: Pairs) -> Regions:
    if pairs.regions is None:
        raise ViceError("The pairs must come with their table's rows, but have none.", "Take them from true_pairs.")
    return pairs.regions


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN for 0 / 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _at_chosen(pairs: Pairs, counts: np.ndarray) -> np.ndarray:
    """(P,) of (P, T) counts, those at each pair's threshold."""
    return counts[np.arange(len(pairs)), pairs.at]


def _precision(pairs: Pairs) -> np.ndarray:
    regions = _regions(pairs)
    return _share(_at_chosen(pairs, regions.intersection), _at_chosen(pairs, regions.predicted))


def _recall(pairs: Pairs) -> np.ndarray:
    regions = _regions(pairs)
    return _share(_at_chosen(pairs, regions.intersection), regions.mask_pixels)


def _soft_iou(pairs: Pairs) -> np.ndarray:
    regions = _regions(pairs)
    return _share(regions.energy_inside, regions.energy_outside + regions.mask_pixels)


def _energy(pairs: Pairs) -> np.ndarray:
    regions = _regions(pairs)
    return _share(regions.energy_inside, regions.energy_inside + regions.energy_outside)


def _otsu(pairs: Pairs) -> np.ndarray:
    regions = _regions(pairs)
    return _share(regions.otsu_intersection, regions.otsu_predicted + regions.mask_pixels - regions.otsu_intersection)


def _box_iou(pairs: Pairs) -> np.ndarray:
    best = np.asarray(_regions(pairs).box_iou, float)
    known = ~np.isnan(best).any(axis=1)
    result = np.full(len(pairs), np.nan)
    if known.any():
        result[known] = HeldOut(best[known], pairs.fold[known]).quality
    return result


def _faithfulness(name: str, blank: str, sign: int) -> Callable[[Pairs], np.ndarray]:
    """Faithfulness relative to random orders, as a share of the whole change of the probability.

    Args:
        name: the column of the areas.
        blank: the column of the probability on the image that the order ends (or begins) on.
        sign: -1 where less is better.
    """

    def of(pairs: Pairs) -> np.ndarray:
        regions = _regions(pairs)
        found, chance = getattr(regions, name), getattr(regions, f"{name}_random")
        return sign * normalised_faithfulness(found, chance, regions.p_full, getattr(regions, blank))

    return of


# The cut-off of a share; as the IoU's it is fixed, so that other images move no pair.
HALF = 0.5

QUALITIES: dict[str, Quality] = {
    "ji": Quality("IoU at the held-out threshold", lambda pairs: pairs.quality, "IoU"),
    "precision": Quality("share of what is looked at that is object (wrong place)", _precision, "precision", HALF),
    "recall": Quality("share of the object that is looked at (coverage)", _recall, "recall", HALF),
    "soft_iou": Quality("IoU of the map itself, without a threshold", _soft_iou, "soft IoU"),
    "pointing": Quality(
        "whether the map's maximum lies on the object", lambda pairs: _regions(pairs).pointing, "pointing", HALF
    ),
    "energy": Quality("share of the map's sum that lies on the object", _energy, "energy", HALF),
    "otsu": Quality("IoU at each map's own Otsu threshold", _otsu, "Otsu IoU"),
    "box_iou": Quality("best IoU of the map's boxes with the object's", _box_iou, "box IoU"),
    "insertion": Quality(
        "how fast the probability rises as pixels come in, against chance",
        _faithfulness("insertion", "p_canvas", 1),
        "insertion",
        says_where=False,
    ),
    "deletion": Quality(
        "how fast it falls as pixels go, against chance",
        _faithfulness("deletion", "p_blank", -1),
        "deletion",
        says_where=False,
    ),
    "road": Quality(
        "remove and debias, least less most relevant first, against chance",
        _faithfulness("road", "p_blank", 1),
        "ROAD",
        says_where=False,
    ),
}
