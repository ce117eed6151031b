"""The catalogue: one record for each number, with its name, its meaning and the places where it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torchvice.errors import ViceError, did_you_mean
from torchvice.measures.qualities import QUALITIES

__all__ = [
    "CATALOGUE",
    "COMPARED",
    "SECTIONS",
    "Measure",
    "compared_label",
    "measure_of",
    "overview",
    "paths",
    "quality_label",
    "shown_in",
]

PAPER = "More than Accuracy: an Empirical Study of Consistency between Performance and Interpretability (2022)"
# The sections that hold numbers by name.
SECTIONS = ("paper", "strict", "classification", "localisation", "sensitivities", "calibration", "quality")


@dataclass(frozen=True)
class Measure:
    """One number of `Measures`.

    Attributes:
        path: `section.name`, its place in `Measures` and in measures.json.
        label: its name, the same wherever it is shown.
        definition: one or two sentences; docs/definitions.md has the formula.
        unit: "fraction" in [0, 1], "correlation" in [-1, 1], "error" in [0, 1], "squared error", "nats", "bits" or
            "count".
        better: "higher", "lower" or None.
        perfect: the value of a perfect model, where there is one.
        source: who defined it.
        shown: "overview" (the table of both protocols, everywhere), "page" (that table on the page, and `--all`),
            "headline" (several models next to each other), "compare" and "study" (columns of their tables).
    """

    path: str
    label: str
    definition: str
    unit: str = "fraction"
    better: str | None = "higher"
    perfect: float | None = 1.0
    source: str = ""
    shown: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        """The section of `Measures`."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """The name within the section."""
        return self.path.partition(".")[2]

    @property
    def full_label(self) -> str:
        """The label with its protocol, such as `VICE (strict)`."""
        protocol = {"paper": "paper", "strict": "strict"}.get(self.section)
        if self.section == "localisation" and self.name.startswith(("best_", "strict_best_")):
            protocol = "strict" if self.name.startswith("strict_") else "paper"
        if self.path == "classification.mean_average_precision":
            protocol = "paper"
        return f"{self.label} ({protocol})" if protocol else self.label


EVERYWHERE = ("overview", "page", "headline", "compare", "study")
TABLES = ("overview", "page")

_MEASURES = (
    Measure(
        "paper.vice",
        "VICE",
        "Pearson's correlation, over images with a mask, of minus the loss with the JI score, as published. In "
        "[-1, 1], higher is more consistent. With skewed losses it depends on a few images.",
        "correlation",
        source=PAPER,
        shown=("overview", "page", "headline"),
    ),
    Measure(
        "strict.vice",
        "VICE",
        "Spearman's rank correlation, over true (image, class) pairs, of the pair's log-likelihood with the IoU of its "
        "map at a threshold that other images chose. In [-1, 1]: 1 means that the surer the model is of an object, the "
        "better its map covers it; 0 no connection. Temperature scaling does not change it.",
        "correlation",
        source="torchvice",
        shown=EVERYWHERE,
    ),
    Measure(
        "paper.ece_ml",
        "ECE-ML",
        "As published: the gap between mean confidence and mean Jaccard index of the label sets, over 20 bins. A "
        "perfectly calibrated model does not reach 0.",
        "error",
        "lower",
        0.0,
        PAPER,
        TABLES,
    ),
    Measure(
        "strict.ece_ml",
        "ECE-ML",
        "Multi-label expected calibration error: over 20 bins of the confidence, the count-weighted mean gap between "
        "mean confidence and mean precision of the predicted labels. In [0, 1], 0 is perfect; binning alone makes it "
        "0.02 to 0.03 with about 1500 images.",
        "error",
        "lower",
        0.0,
        "Guo et al., ICML 2017, for several labels",
        EVERYWHERE,
    ),
    Measure(
        "paper.ml_accuracy",
        "ML-accuracy",
        "Mean over images of the Jaccard index of predicted and true label sets; undefined if an image has neither.",
        source="Godbole and Sarawagi 2004",
        shown=TABLES,
    ),
    Measure(
        "strict.ml_accuracy",
        "ML-accuracy",
        "Mean over images of the Jaccard index of predicted and true label sets; images with neither are left out. In "
        "[0, 1], 1 is perfect.",
        source="Godbole and Sarawagi 2004",
        shown=("overview", "page", "headline"),
    ),
    Measure(
        "paper.f1",
        "F1",
        "Mean over images of 2 |P and Y| / (|P| + |Y|); an image with neither counts 0.",
        source="Godbole and Sarawagi 2004",
        shown=TABLES,
    ),
    Measure(
        "strict.f1",
        "F1",
        "Mean over images of 2 |P and Y| / (|P| + |Y|); images with neither are left out.",
        source="Godbole and Sarawagi 2004",
        shown=TABLES,
    ),
    Measure(
        "classification.mean_average_precision",
        "mAP",
        "Mean over classes of the average precision; a class that no image shows counts 0.",
        source="as scikit-learn",
        shown=TABLES,
    ),
    Measure(
        "strict.mean_average_precision",
        "mAP",
        "Mean over classes of the average precision of ranking images by probability; a class that no image shows is "
        "left out. In [0, 1]; temperature scaling does not change it.",
        source="as scikit-learn",
        shown=EVERYWHERE,
    ),
    Measure(
        "paper.ji",
        "JI score",
        "Mean over images of the image's JI at threshold 0.1: the mean IoU of the labels whose IoU is not 0, "
        "background included. An object missed altogether leaves the mean instead of lowering it.",
        source=PAPER,
        shown=TABLES,
    ),
    Measure(
        "strict.ji",
        "JI score",
        "Mean IoU of map and mask over true (image, class) pairs, each at a threshold chosen on the other folds' "
        "images; a missed object counts 0. In [0, 1].",
        source="torchvice",
        shown=("overview", "page", "headline", "study"),
    ),
    Measure(
        "localisation.best_mean_iou",
        "Best mIoU",
        "Mean IoU over labels and background at the best threshold, pixels summed over images; a class that never "
        "occurs counts 0.",
        source=PAPER,
        shown=TABLES,
    ),
    Measure(
        "localisation.strict_best_mean_iou",
        "Best mIoU",
        "Mean IoU over the labels that occur and background at the best threshold, pixels summed over images.",
        source="torchvice",
        shown=TABLES,
    ),
    Measure(
        "localisation.best_threshold",
        "Best threshold",
        "The first threshold of the highest mIoU. Chosen and reported on the same images: optimistic.",
        better=None,
        perfect=None,
        source=PAPER,
        shown=TABLES,
    ),
    Measure(
        "localisation.strict_best_threshold",
        "Best threshold",
        "The first threshold of the highest mIoU. Chosen and reported on the same images: optimistic.",
        better=None,
        perfect=None,
        source="torchvice",
        shown=TABLES,
    ),
    *(
        Measure(f"classification.{name}", name.upper(), text, source="Zhu et al., CVPR 2017", shown=("page",))
        for name, text in (
            ("cp", "Mean over classes of precision: hits of the class over its predictions."),
            ("cr", "Mean over classes of recall: hits of the class over its true labels."),
            ("cf1", "Harmonic mean of CP and CR."),
            ("op", "Precision over all labels: all hits over all predictions."),
            ("or", "Recall over all labels: all hits over all true labels."),
            ("of1", "Harmonic mean of OP and OR."),
        )
    ),
    Measure(
        "paper.kl",
        "KL",
        "Relative entropy of loss and JI scaled to sums of 1, nats. Not a measure of consistency.",
        "nats",
        None,
        None,
        PAPER,
        ("page",),
    ),
    Measure(
        "paper.js",
        "JS",
        "The published variant of the Jensen-Shannon divergence of loss and JI, bits. Not a measure of consistency.",
        "bits",
        None,
        None,
        PAPER,
        ("page",),
    ),
    Measure(
        "localisation.pxap",
        "PxAP",
        "Average precision of all pixels of all true pairs, taken as one list.",
        source="Choe et al., CVPR 2020",
    ),
    Measure(
        "localisation.iou_area",
        "Area under the IoU curve",
        "Mean over thresholds from 0 to 1 of the mean IoU of the pairs, each class on its own.",
        source="torchvice",
    ),
    *(
        Measure(
            f"localisation.box_accuracy{ending}",
            f"Box accuracy{words}",
            f"Share of pairs whose best box reaches an IoU of {level}, at a threshold that other folds chose.",
            source="Choe et al., CVPR 2020",
        )
        for ending, words, level in (
            ("_30", " at IoU 0.3", "0.3"),
            ("_50", " at IoU 0.5", "0.5"),
            ("_70", " at IoU 0.7", "0.7"),
            ("", "", "0.3, 0.5 and 0.7 (mean)"),
        )
    ),
    Measure(
        "localisation.max_box_accuracy",
        "MaxBoxAccV2",
        "Box accuracy at the best thresholds of these very images: optimistic.",
        source="Choe et al., CVPR 2020",
    ),
)

_CORRELATIONS = (
    ("image_spearman", "Images: Spearman", "Spearman over images, of minus the loss with the mean quality."),
    ("image_log_pearson", "Images: Pearson, log loss", "Pearson over images, of minus the log of the loss."),
    ("pair_pearson", "Pairs: Pearson", "Pearson over pairs, of the log-likelihood with the quality."),
    ("pair_log_pearson", "Pairs: Pearson, log loss", "Pearson over pairs, of minus the log of the loss."),
    (
        "partial_spearman",
        "Given size and label count",
        "Partial Spearman, given the object's size and the number of labels, by splines of ranks.",
    ),
    ("within_class", "Within classes", "Spearman of ranks within each class."),
    ("threshold_fixed", "At threshold 0.1", "VICE of strict at the paper's fixed threshold."),
    ("threshold_best", "At the best threshold", "VICE at the best threshold of these very images: optimistic."),
    ("kendall", "Kendall's tau-b", "Kendall's rank correlation over pairs."),
    ("pearson_precision", "Pearson with precision", "Pearson over pairs, of the log-likelihood with the precision."),
    ("pearson_recall", "Pearson with recall", "Pearson over pairs, of the log-likelihood with the recall."),
    ("normalisation_max", "Maps divided by their maximum", "VICE with maps scaled by their maximum, class by class."),
    ("normalisation_minmax", "Maps scaled to [0, 1]", "VICE with maps scaled from minimum to maximum."),
    ("normalisation_percentile", "Maps scaled by a percentile", "VICE with maps scaled by their 99th percentile."),
)

_ERRORS = (
    ("ece", "ECE", "Over images: ECE-ML of strict; of exclusive classes the ECE of the likeliest class."),
    ("ece_equal_mass", "ECE, equal-mass bins", "The same over bins of equal count."),
    ("mce", "MCE", "The largest gap of a bin that holds images."),
    ("smooth_ece", "Smooth ECE", "Calibration error without bins, by kernel smoothing."),
    ("ece_l2_squared", "Squared L2 error, debiased", "Mean squared gap less its bias; may be below 0."),
    ("ece_l2", "L2 error, debiased", "Root of the squared L2 error, 0 where that is below 0."),
    ("ece_pooled", "ECE over cells", "Over all (image, class) cells at once."),
    ("ece_pooled_equal_mass", "ECE over cells, equal-mass bins", "The same over bins of equal count."),
    ("smooth_ece_pooled", "Smooth ECE over cells", "Smooth ECE over all (image, class) cells."),
    ("ece_classwise", "Classwise ECE", "Mean over classes of the ECE of each class."),
    ("ece_classwise_equal_mass", "Classwise ECE, equal-mass bins", "The same over bins of equal count."),
    ("brier", "Brier score", "Mean squared difference of probability and target."),
)

_COUNTS = (
    ("n", "Images", "Number of images."),
    ("classes_without_positives", "Classes without a positive", "Classes that no image shows; they count."),
    ("ece_l2_left_out", "Images left out of the L2 error", "Images that share a bin with no other image."),
)


def _families() -> Iterator[Measure]:
    """The records that are alike: of every quality, of every error of calibration."""
    for name, quality in QUALITIES.items():
        if name != "ji":
            perfect, unit = 1.0, "fraction" if quality.says_where else "correlation"
            mean = f"Mean over true pairs: {quality.meaning}."
            yield Measure(f"localisation.{name}", f"Mean {quality.label}", mean, unit, perfect=perfect)
        vice = f"VICE of strict with {quality.label} as the quality of a map."
        yield Measure(f"sensitivities.vice_{name}", f"With {quality.label}", vice, "correlation")
    for name, label, definition in _CORRELATIONS:
        yield Measure(f"sensitivities.{name}", label, definition, "correlation")
    for name, label, definition in _ERRORS:
        unit = "squared error" if name in ("ece_l2_squared", "brier") else "error"
        yield Measure(f"calibration.{name}", label, definition, unit, "lower", 0.0)
    likelihood = "Mean negative log-likelihood of the true labels."
    yield Measure("calibration.nll", "NLL", likelihood, "nats", "lower", 0.0)
    top = "Share of images whose likeliest class is the true one; of exclusive classes alone."
    yield Measure("calibration.top_one_accuracy", "Top-1 accuracy", top)
    for name, label, definition in _COUNTS:
        yield Measure(f"calibration.{name}", label, definition, "count", None, None)
    chosen = "VICE of strict with the quality that was chosen by --quality, in place of the IoU."
    yield Measure("quality.vice", "VICE with the chosen quality", chosen, "correlation")
    yield Measure("quality.mean", "Mean of the chosen quality", "Mean over true pairs of the chosen quality.")


CATALOGUE: dict[str, Measure] = {measure.path: measure for measure in (*_MEASURES, *_families())}
# Columns of comparisons and studies, and the measure behind each.
COMPARED = {
    "vice": "strict.vice",
    "mean_average_precision": "strict.mean_average_precision",
    "ece_ml": "strict.ece_ml",
    "ji": "strict.ji",
    "paper_vice": "paper.vice",
    "paper_ece_ml": "paper.ece_ml",
}


def measure_of(path: str) -> Measure:
    """The record of a path such as `strict.vice`.

    Raises:
        ViceError: no such measure.
    """
    if path not in CATALOGUE:
        raise ViceError(f"A measure must have a known path, but is {path!r}.", did_you_mean(path, CATALOGUE))
    return CATALOGUE[path]


def paths(section: str, place: str = "") -> list[str]:
    """The paths of a section, in the order in which they are shown; with `place`, those shown there."""
    return [m.path for m in CATALOGUE.values() if m.section == section and (not place or place in m.shown)]


def shown_in(place: str) -> list[Measure]:
    """The measures that are shown at a place, see `Measure`."""
    return [measure for measure in CATALOGUE.values() if place in measure.shown]


def overview(place: str = "overview") -> list[tuple[str, str, str]]:
    """Rows of the table of both protocols: a label, and the paths under `paper` and `strict` ("" without one)."""
    rows: dict[str, list[str]] = {}
    for measure in shown_in(place):
        strict = measure.section == "strict" or measure.name.startswith("strict_")
        rows.setdefault(measure.label, ["", ""])[strict] = measure.path
    return [(label, *cells) for label, cells in rows.items()]  # type: ignore[misc]


def compared_label(name: str, quality: str = "ji") -> str:
    """The label of a column of a comparison or a study, such as `mean_average_precision`.

    Example:
        >>> compared_label("mean_average_precision"), compared_label("quality"), compared_label("loss")
        ('mAP', 'JI score', 'Loss')
    """
    if name == "quality":
        return quality_label(quality)
    return "Loss" if name == "loss" else measure_of(COMPARED[name]).label


def quality_label(quality: str) -> str:
    """What the mean of a quality is called: the JI score, or the quality's own name."""
    label = CATALOGUE["strict.ji"].label if quality == "ji" else QUALITIES[quality].label
    return label[:1].upper() + label[1:]
