"""The ledger of a table: what made it, and what of it is done, so that a run goes on and explanations can be added."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.assessment.faithfulness import lacks
from torchvice.assessment.images import Dataset
from torchvice.errors import ViceError
from torchvice.metrics.thresholds import PAPER_THRESHOLDS
from torchvice.samples import HISTOGRAM_BINS, Regions, Samples, ShardFolder

if TYPE_CHECKING:
    from torchvice.assessment.extras import Extra
    from torchvice.assessment.views import View
    from torchvice.explain import FaithfulnessChoices

__all__ = ["Ledger", "manifest_of"]

# What may differ when a run goes on; explanations are compared one by one.
_LOOSE = ("finished", "versions", "explanations", "adding", "added", "without_row", "files")


def manifest_of(
    dataset: Dataset,
    views: Mapping[str, View],
    extras: Sequence[Extra],
    kind: str,
    made_by: Mapping[str, Any],
    faithful: FaithfulnessChoices | None = None,
) -> dict[str, Any]:
    """What makes the table that is asked for; `faithful`, of the headline of `strict`."""
    from torchvice.models.build import weights_hash

    explainer = next(iter(views.values())).explainer
    headlines = {view.explanation: {"role": "headline", **view.settings} for view in views.values()}
    if faithful is not None:
        headlines[views["strict"].explanation]["faithfulness"] = faithful.to_dict()
    return {
        "made_by": {"command": "assess", **made_by},
        "model": {
            "type": type(explainer.model).__name__,
            "weights_sha256": weights_hash(explainer.model),
            "class_map": explainer.class_map,
        },
        "dataset": {
            "root": str(getattr(dataset, "root", "")),
            "split": str(getattr(dataset, "split", "")),
            "labels": str(getattr(dataset, "label_source", "")),
            "images": len(dataset.records),
            "regions": str(getattr(dataset, "regions", "masks")),
        },
        "classes": list(dataset.classes),
        "targets": kind,
        "thresholds": PAPER_THRESHOLDS.tolist(),
        "histogram_bins": HISTOGRAM_BINS,
        "explanations": {
            **headlines,
            **{extra.explanation: extra.settings for extra in extras},
        },
        "protocols": {name: {"view": view.name, "explanation": view.explanation} for name, view in views.items()},
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("torchvice", "torch", "timm", "numpy", "pillow")},
        },
        "seed": None,
        "finished": False,
    }


@dataclass
class Ledger:
    """A folder's manifest joined with what is asked of it now.

    `manifest["explanations"]` are those that every finished shard holds, or will when it is made; `added` those of them
    that lie beside the shards; `adding` {id: settings} those that are being added, which no reader sees yet.
    """

    folder: ShardFolder
    asked: dict[str, Any]
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: ShardFolder, asked: dict[str, Any]) -> Ledger:
        """Begin a table, or go on with one.

        Raises:
            ViceError: the folder holds the table of another assessment.
        """
        asked = json.loads(json.dumps(asked))  # as it comes back from the manifest: tuples are lists there
        if folder.shards() and not folder.manifest_path.is_file():
            raise ViceError(
                f"{folder.folder} holds shards of a table, but no manifest.json that says which model made them.",
                "Restore the manifest, or delete that folder to begin again.",
            )
        if not folder.shards():  # nothing is lost where nothing was finished
            ledger = cls(folder, asked, {**asked, "added": [], "adding": {}})
        else:
            before = folder.manifest()
            known = before["explanations"] | before["adding"]
            _refuse_another(folder, asked, before, known)
            new = {name: settings for name, settings in asked["explanations"].items() if name not in known}
            kept = {name: before[name] for name in ("added", "finished")}
            kept["explanations"] = _joined(before["explanations"], asked["explanations"])
            kept["adding"] = _joined(before["adding"], asked["explanations"]) | new
            ledger = cls(folder, asked, {**before, **asked, **kept})
            ledger.manifest.pop("files", None)  # until the table is finished again
        folder.start(ledger.manifest)
        return ledger

    def of_shards(self) -> set[str]:
        """The explanations that lie in the shards themselves."""
        return set(self.manifest["explanations"]) - set(self.manifest["added"])

    def beside(self) -> set[str]:
        """The explanations that lie beside the shards, or will."""
        return set(self.manifest["added"]) | (set(self.manifest["adding"]) & self._wanted())

    def absent(self, number: int) -> set[str]:
        """The explanations that a finished shard lacks."""
        return {name for name in self.beside() if not self.folder.has(number, name)}

    def need(self, names: Iterable[str]) -> None:
        """Refuse to go on where the table is to have an explanation that is not asked for this time."""
        lacking = sorted(set(names) - self._wanted())
        if lacking:
            raise ViceError(
                f"{self.folder.folder} is to hold {', '.join(f'`{name}`' for name in lacking)} too, but it is not "
                "asked for.",
                "Ask for it again to finish the table, or delete that folder to begin anew.",
            )

    def need_faithfulness(self, names: Iterable[str]) -> None:
        """Refuse to go on where maps are to have a faithfulness that is not asked for this time."""
        asked = self.asked["explanations"]
        lacking = sorted(name for name in names if "faithfulness" not in asked.get(name, {}))
        if lacking:
            raise ViceError(
                f"{self.folder.folder} is to hold the faithfulness of {', '.join(f'`{name}`' for name in lacking)}, "
                "but it is not asked for.",
                "Ask for it again to finish the table, or delete that folder to begin anew.",
            )

    def faithful(self) -> set[str]:
        """The explanations whose faithfulness the table is to hold."""
        known = self.manifest["explanations"] | self.manifest["adding"]
        return {name for name, settings in known.items() if "faithfulness" in settings}

    def unfaithful(self, number: int) -> set[str]:
        """The explanations that a finished shard holds without the faithfulness that they are to have."""
        mine = self.of_shards()
        held = {name for name in self.faithful() if name in mine or self.folder.has(number, name)}
        return {name for name in held if lacks(self.regions(number, name), name)}

    def regions(self, number: int, name: str) -> Regions:
        """The rows of regions that lie where those of an explanation do."""
        return self.folder.regions(number, None if name in self.of_shards() else name)

    def amend(self, number: int, name: str, regions: Regions) -> None:
        """Put rows in the place of those that lie there."""
        self.folder.amend(number, regions, None if name in self.of_shards() else name)

    def complete(self, images: int) -> bool:
        """Whether the shards hold that many images with all that is asked for: nobody has anything left to make."""
        if len(self.folder.finished_images()) < images:
            return False
        return not any(self.absent(number) or self.unfaithful(number) for number in self.folder.shards())

    def finish(self) -> Samples:
        """All is done: what was being added counts from now on. Returns the table.

        A kill between the two writings leaves a table that is whole, and only its counts undone.
        """
        adding, wanted = self.manifest["adding"], self._wanted()
        done = {name: settings for name, settings in adding.items() if name in wanted}
        self.manifest |= {
            "explanations": self.manifest["explanations"] | done,
            "added": [*self.manifest["added"], *done],
            "adding": {name: settings for name, settings in adding.items() if name not in done},
        }
        self.folder.start(self.manifest)
        samples = Samples.load(self.folder.folder)
        self.manifest |= {"without_row": _without_row(samples), "finished": True, "files": self.folder.digests()}
        self.folder.start(self.manifest)
        return Samples(self.folder.manifest(), samples.images, samples.regions, samples.maps)

    def _wanted(self) -> set[str]:
        return set(self.asked["explanations"])


def _joined(held: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The explanations of a table, with the faithfulness that is asked for now."""
    return {name: settings | asked.get(name, {}) for name, settings in held.items()}


def _refuse_another(
    folder: ShardFolder, asked: Mapping[str, Any], before: Mapping[str, Any], known: Mapping[str, Any]
) -> None:
    differing = [name for name in asked if name not in _LOOSE and asked[name] != before.get(name)]
    for name, settings in asked["explanations"].items():
        other = [key for key in settings | known.get(name, {}) if settings.get(key) != known.get(name, {}).get(key)]
        if "faithfulness" in other and not ("faithfulness" in settings and "faithfulness" in known.get(name, {})):
            other.remove("faithfulness")  # it can be asked for later, and need not be asked for again
        if name in known and other:
            differing.append(f"the explanation `{name}` ({', '.join(other)})")
    if differing:
        raise ViceError(
            f"A table goes on with the settings it was begun with, but {folder.folder} differs in "
            f"{', '.join(differing)}.",
            "Delete that folder to begin anew, or write to another one.",
        )


def _without_row(samples: Samples) -> dict[str, int]:
    """{control: true (image, class) pairs of `strict` with mask pixels that it has no row for}; only what happened.

    Of `shuffled`, whose class no other image's mask holds.
    """
    if "strict" not in samples.protocols:
        return {}
    images, headline = samples.of_protocol("strict").images, samples.of_protocol("strict").regions
    truth = dict(zip(images.image_id.tolist(), images.targets, strict=True))
    rows = zip(headline.image_id.tolist(), headline.label.tolist(), headline.mask_pixels.tolist(), strict=True)
    pairs = {(image, label) for image, label, pixels in rows if label and pixels and truth[image][label - 1]}
    found = {}
    for name, settings in samples.manifest["explanations"].items():
        if settings["role"] == "control":
            mine = samples.regions.where(np.flatnonzero(samples.regions.explanation == name))
            found[name] = len(pairs - set(zip(mine.image_id.tolist(), mine.label.tolist(), strict=True)))
    return {name: count for name, count in found.items() if count}
