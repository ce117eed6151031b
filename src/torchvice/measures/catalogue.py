"""The catalogue: one record for each number, its name, its meaning and where it is shown; catalogue.yaml has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

import yaml

from torchvice.errors import ViceError, did_you_mean
from torchvice.measures.qualities import QUALITIES
from torchvice.samples.columns import FILLINGS

# The sections that hold numbers by name.
SECTIONS = ("paper", "strict", "classification", "localisation", "sensitivities", "calibration", "quality", "without")
# Those by which two files or pages are told to be of the same table.
OF_A_TABLE = ("paper", "strict", "classification", "without")


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
        shown: "overview" (the table of both protocols on the terminal), "page" (that table on the page and in a
            notebook), "headline" (several models next to each other). Comparisons and studies: see COMPARED.
        of: of a score of the predicted labels, the function of `torchvice.metrics.multilabel` that computes it from
            predictions (N, C), targets (N, C) and the protocol. Other measures are put on the sheet where they are
            computed.
    """

    path: str
    label: str
    definition: str
    unit: str = "fraction"
    better: str | None = "higher"
    perfect: float | None = 1.0
    source: str = ""
    shown: tuple[str, ...] = ()
    of: str = ""

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


# What stands in the place of removed pixels, by filling.
FILLED_BY = {
    "blur": "what is around it, blurred",
    "mean": "the mean colour of the rest",
    "noise": "noise of the rest's colours",
    "background": "another image",
}


def _families() -> Iterator[Measure]:
    """The records of every quality: its mean, and VICE with it; and of every filling of a removed object."""
    for name, quality in QUALITIES.items():
        if name != "ji":
            perfect, unit = 1.0, "fraction" if quality.says_where else "correlation"
            mean = f"Mean over true pairs: {quality.meaning}."
            yield Measure(f"localisation.{name}", f"Mean {quality.label}", mean, unit, perfect=perfect)
        vice = f"VICE of strict with {quality.label} as the quality of a map."
        yield Measure(f"sensitivities.vice_{name}", f"With {quality.label}", vice, "correlation")
    for filling in FILLINGS:
        definition = (
            f"Share of found labels that are still found with the object's pixels replaced by {FILLED_BY[filling]}, "
            "over the pairs that were measured with every filling of the table."
        )
        yield Measure(
            f"without.object_found_{filling}", f"Object replaced: {filling}", definition, better="lower", perfect=0.0
        )


def _records() -> Iterator[Measure]:
    """The records of catalogue.yaml, then those of every quality and filling."""
    text = (resources.files("torchvice") / "measures" / "catalogue.yaml").read_text(encoding="utf-8")
    for record in yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        yield Measure(**record | {"shown": tuple(record.get("shown", ()))})
    yield from _families()


CATALOGUE: dict[str, Measure] = {measure.path: measure for measure in _records()}
# Columns of comparisons and studies, and the measure behind each.
COMPARED = {
    "vice": "strict.vice",
    "mean_average_precision": "strict.mean_average_precision",
    "ece_ml": "strict.ece_ml",
    "ji": "strict.ji",
    "paper_vice": "paper.vice",
    "paper_ece_ml": "paper.ece_ml",
    "without_object": "without.object_found",
}
# What models are compared by, in the order of the tables; each is resampled over the same images for every model.
DIFFERENCES = ("vice", "quality", "mean_average_precision", "loss")


def measure_of(path: str) -> Measure:
    """The record of a path such as `strict.vice`.

    Raises:
        ViceError: no such measure.
    """
    if path not in CATALOGUE:
        raise ViceError(f"A measure must have a known path, but is {path!r}.", did_you_mean(path, CATALOGUE))
    return CATALOGUE[path]


def every_measure() -> list[Measure]:
    """The records of all sections, in their order, but for `quality`, which repeats one of them."""
    return [measure_of(path) for section in SECTIONS for path in paths(section) if section != "quality"]


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

    `quality` is the one that VICE and the mean quality are of.

    Example:
        >>> compared_label("mean_average_precision"), compared_label("quality"), compared_label("loss")
        ('mAP', 'JI score', 'Loss')
        >>> compared_label("vice"), compared_label("vice", "recall"), compared_label("quality", "recall")
        ('VICE', 'VICE with recall', 'Recall')
    """
    if name == "quality":
        return quality_label(quality)
    if name == "vice" and quality != "ji":
        return f"{measure_of(COMPARED[name]).label} with {QUALITIES[quality].label}"
    return "Loss" if name == "loss" else measure_of(COMPARED[name]).label


def quality_label(quality: str) -> str:
    """What the mean of a quality is called: the JI score, or the quality's own name."""
    label = CATALOGUE["strict.ji"].label if quality == "ji" else QUALITIES[quality].label
    return label[:1].upper() + label[1:]
