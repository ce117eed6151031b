"""The definition behind every number and term of a page: the numbers of the catalogue, and the terms around them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from torchvice.measures import QUALITIES
from torchvice.measures.catalogue import CATALOGUE

__all__ = ["DEFINITIONS", "definitions_of"]

TERMS: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("terms.yaml").read_text(encoding="utf-8"))
DEFINITIONS = {m.path: (m.full_label, m.definition) for m in CATALOGUE.values() if m.shown or m.section == "quality"}
DEFINITIONS |= {key: (term["name"], term["meaning"]) for key, term in TERMS.items()}
_UNMOVED = re.compile(r"[.;] [Tt]emperature scaling does not change it")  # true of a sigmoid, not of a softmax


def definitions_of(quality: str, exclusive: bool = False) -> dict[str, tuple[str, str]]:
    """DEFINITIONS as they read with a quality in IoU's place, and where classes are `exclusive`.

    Example:
        >>> definitions_of("recall")["iou"][0]
        'Recall of a pair'
        >>> definitions_of("ji", exclusive=True)["confidence"][1]
        'The probability of the predicted class, which is the likeliest one.'
    """
    definitions = _exclusive_definitions() if exclusive else DEFINITIONS
    if quality == "ji":
        return definitions
    chosen = QUALITIES[quality]
    label, named, meaning = chosen.label, chosen.label[:1].upper() + chosen.label[1:], chosen.meaning
    ends = "In [0, 1], higher is better." if chosen.says_where else "In [-1, 1], higher is better; 0 is chance."
    kept = "It does not say where a map lies: the quadrants, and the strength of a pair in them, are those of the IoU. "
    moved = definitions["quadrant"][1].replace("IoU", label).replace("0.3", f"{chosen.cutoff:g}")
    return {
        **definitions,
        "quality.vice": (
            f"VICE with {label}",
            "Spearman's rank correlation, over true (image, class) pairs, of the pair's log-likelihood with the "
            f"{label} of its map: {meaning}. In [-1, 1], higher is more consistent. Pairs of undefined {label} are "
            "left out. Not the headline, which takes the IoU.",
        ),
        "quality.mean": (f"Mean {label}", f"Mean over true pairs of this: {meaning}. {ends}"),
        "iou": (f"{named} of a pair", f"Of its map: {meaning}. {ends}"),
        "quadrant": ("Quadrant", moved if chosen.says_where else kept + definitions["quadrant"][1]),
        "strength": (
            definitions["strength"][0],
            definitions["strength"][1].replace("IoU", label if chosen.says_where else "IoU"),
        ),
        "class_iou": (f"{named} of a class", f"Mean {label} of its true pairs."),
        "class_vice": ("VICE of a class", f"VICE with {label} over the true pairs of this class alone."),
        "disagreement": (
            "Disagreement",
            f"Of models on a pair: the range of their probabilities plus that of their {label}.",
        ),
    }


def _exclusive_definitions() -> dict[str, tuple[str, str]]:
    catalogue = {key: (name, _UNMOVED.sub("", text)) for key, (name, text) in DEFINITIONS.items()}
    return catalogue | {key: (term["name"], term["exclusive"]) for key, term in TERMS.items() if "exclusive" in term}
