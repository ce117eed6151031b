"""The definition behind every number and term of a page: the numbers of the catalogue, and the terms around them."""

from __future__ import annotations

from torchvice.measures import QUALITIES
from torchvice.measures.catalogue import CATALOGUE

__all__ = ["DEFINITIONS", "definitions_of"]

# Terms that are no numbers of the catalogue.
TERMS: dict[str, tuple[str, str]] = {
    "loss": (
        "Loss",
        "Of an image, the mean over classes of the binary cross-entropy, nats. Of a pair, -ln p of its true class: "
        "ln 2 = 0.69 is p = 0.5.",
    ),
    "confidence": (
        "Confidence",
        "The mean probability of the predicted labels (p above 0.5); without any, the largest probability.",
    ),
    "accuracy": ("Accuracy of an image", "The Jaccard index of its predicted and true label sets."),
    "image_ji": (
        "JI score of an image",
        "At threshold 0.1, the mean IoU of the labels whose IoU is not 0, background included.",
    ),
    "probability": ("Probability", "1 / (1 + exp(-logit)) of one class. Above 0.5 the class is predicted."),
    "iou": (
        "IoU of a pair",
        "Pixels that map and mask share, over the pixels of either, at a threshold that other images chose.",
    ),
    "quadrant": (
        "Quadrant",
        "Right: the probability of the true class is above 0.5. Looking at the object: the IoU of its map is at least "
        "0.3; elsewhere: below. Both cut-offs are fixed and do not move with the data.",
    ),
    "strength": (
        "Strength",
        "How far inside its quadrant a pair lies: the smaller of the distances of probability and IoU from their "
        "cut-offs, each as a share of the way to 0 or 1.",
    ),
    "size": (
        "Object size",
        "The share of the image that the class's mask covers: small below 5 %, medium to 20 %, large above.",
    ),
    "class_ap": ("AP of a class", "Precision among all images that score at least as high, averaged over its images."),
    "class_iou": ("IoU of a class", "Mean pair IoU of its true pairs."),
    "class_vice": ("VICE of a class", "VICE (strict) over the true pairs of this class alone."),
    "control": (
        "Control",
        "Maps that know nothing of the image (or of its training), measured with the model's own losses. A control is "
        "beaten where the whole interval of the paired difference lies above 0.",
    ),
    "sensitivity": ("Sensitivity", "The same question asked in another way; not the headline."),
    "method": ("Other methods", "VICE of maps made by another method, with the same logits, and how far it differs."),
    "retest": ("Test and retest", "VICE of the same method on mirrored or scaled images: how stable the number is."),
    "test": (
        "Tests",
        "p: how often a table without any connection would show one as strong. Permutations are studentised, with the "
        "standard error by images.",
    ),
    "stratum": (
        "Strata",
        "VICE over the pairs of a stratum alone. Within predicted or not predicted pairs the probability varies less, "
        "which lowers any correlation.",
    ),
    "fold": ("Folds", "The threshold of a fold is the one of highest mean pair IoU over the other four folds."),
    "temperature": (
        "Temperature scaling",
        "All logits divided by one number, chosen on another split so that the loss there is lowest. VICE of strict is "
        "blind to it.",
    ),
    "difference": (
        "Paired difference",
        "Both models are measured on the same resampled images, so that what the images do to both drops out. p by "
        "Holm's correction over the pairs of models.",
    ),
    "calibration": (
        "Calibration",
        "Further measures of calibration; docs/definitions.md has each formula. By chance, if calibrated: where the "
        "middle 95 % of models lie whose labels are drawn from their own probabilities, independently.",
    ),
    "localisation": (
        "Localisation",
        "How well the maps cover the objects, in other senses than the IoU at a threshold.",
    ),
    "disagreement": (
        "Disagreement",
        "Of models on a pair: the range of their probabilities plus the range of their IoUs, in [0, 2].",
    ),
}


DEFINITIONS = {path: (measure.full_label, measure.definition) for path, measure in CATALOGUE.items()} | TERMS


def definitions_of(quality: str) -> dict[str, tuple[str, str]]:
    """DEFINITIONS as they read with a quality in IoU's place.

    Example:
        >>> definitions_of("recall")["iou"][0]
        'Recall of a pair'
    """
    if quality == "ji":
        return DEFINITIONS
    chosen = QUALITIES[quality]
    label, named, meaning = chosen.label, chosen.label[:1].upper() + chosen.label[1:], chosen.meaning
    ends = "In [0, 1], higher is better." if chosen.says_where else "In [-1, 1], higher is better; 0 is chance."
    kept = "It does not say where a map lies: the quadrants, and the strength of a pair in them, are those of the IoU. "
    moved = DEFINITIONS["quadrant"][1].replace("IoU", label).replace("0.3", f"{chosen.cutoff:g}")
    return {
        **DEFINITIONS,
        "quality.vice": (
            f"VICE with {label}",
            "Spearman's rank correlation, over true (image, class) pairs, of the pair's log-likelihood with the "
            f"{label} of its map: {meaning}. In [-1, 1], higher is more consistent. Pairs of undefined {label} are "
            "left out. Not the headline, which takes the IoU.",
        ),
        "quality.mean": (f"Mean {label}", f"Mean over true pairs of this: {meaning}. {ends}"),
        "iou": (f"{named} of a pair", f"Of its map: {meaning}. {ends}"),
        "quadrant": ("Quadrant", moved if chosen.says_where else kept + DEFINITIONS["quadrant"][1]),
        "strength": (
            DEFINITIONS["strength"][0],
            DEFINITIONS["strength"][1].replace("IoU", label if chosen.says_where else "IoU"),
        ),
        "class_iou": (f"{named} of a class", f"Mean {label} of its true pairs."),
        "class_vice": ("VICE of a class", f"VICE with {label} over the true pairs of this class alone."),
        "disagreement": (
            "Disagreement",
            f"Of models on a pair: the range of their probabilities plus that of their {label}.",
        ),
    }
