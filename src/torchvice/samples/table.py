"""The table in memory: images, regions and maps, and a manifest that says how they were made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from torchvice.errors import ViceError
from torchvice.samples.columns import Images, Maps, Regions
from torchvice.samples.frames import pandas_frame, polars_frame
from torchvice.samples.predictions import losses, predicted, probabilities
from torchvice.samples.shards import ShardFolder
from torchvice.samples.true_labels import TrueLabels

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["FOREIGN", "ProtocolSamples", "Samples"]

FOREIGN = "maps of another tool"  # the type of the model, and the method, of tables made of files


@dataclass(frozen=True)
class Samples:
    """The table of one assessment, which `vice assess` writes and `vice measure` reads.

    Args:
        manifest: how it was made. `classes` (C,) names; `targets` "multilabel" or "exclusive"; `thresholds` (T,);
            `explanations` {id: settings}, `role` among them; `protocols` {"paper" | "strict": {"view", "explanation"}},
            the headline explanations; model, dataset and versions.
        images, regions, maps: the three parts.
    """

    manifest: Mapping[str, Any]
    images: Images
    regions: Regions
    maps: Maps

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the C object classes."""
        return tuple(self.manifest["classes"])

    @property
    def exclusive(self) -> bool:
        """Whether every image has exactly one label."""
        return bool(self.manifest["targets"] == "exclusive")

    @property
    def of_boxes(self) -> bool:
        """Whether the objects are unions of boxes, not masks."""
        return bool(self.manifest["dataset"].get("regions") == "boxes")

    @property
    def foreign(self) -> bool:
        """Whether maps and logits were read from the files of another tool, without the network."""
        return bool(self.manifest["model"].get("type") == FOREIGN)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that the table was assessed under: "paper", "strict" or both."""
        return tuple(self.manifest["protocols"])

    @property
    def thresholds(self) -> np.ndarray:
        """(T,) the thresholds of the counts."""
        return np.asarray(self.manifest["thresholds"], dtype=float)

    def of_protocol(self, protocol: str) -> ProtocolSamples:
        """Select the images and regions that a protocol measures.

        Raises:
            ViceError: the table was not assessed under it.
        """
        if protocol not in self.protocols:
            known = " and ".join(f"`{name}`" for name in self.protocols) or "no protocol"
            raise ViceError(
                f"The table was not assessed under `{protocol}`, only under {known}.",
                "Assess it with --protocol both, into another folder.",
            )
        part = self._of_protocols.get(protocol)
        if part is None:
            self._of_protocols[protocol] = part = ProtocolSamples(self, protocol)
        return part

    def of_view(self, view: str) -> Images:
        """Select the image rows of one view, ordered by image id.

        Raises:
            ViceError: the table has no such view.
        """
        rows = np.flatnonzero(self.images.view == view)
        if not len(rows):
            known = ", ".join(sorted(set(self.images.view.tolist()))) or "none"
            raise ViceError(f"`view` must be one of the table's ({known}), but is {view!r}.")
        return self.images.where(rows[np.argsort(self.images.image_id[rows], kind="stable")])

    def of_explanation(self, explanation: str) -> Regions:
        """Select the region rows of one explanation, ordered by image id and label.

        Raises:
            ViceError: the table has no such explanation.
        """
        if explanation not in self.manifest["explanations"]:
            known = ", ".join(self.manifest["explanations"])
            raise ViceError(f"`explanation` must be one of the table's ({known}), but is {explanation!r}.")
        rows = np.flatnonzero(self.regions.explanation == explanation)
        place = np.array([self._place_of[name] for name in self.regions.image_id[rows].tolist()], np.int64)
        return self.regions.where(rows[np.lexsort((self.regions.label[rows], place))])

    @cached_property
    def _place_of(self) -> dict[str, int]:
        """The place of each image's id among all, in order."""
        return {name: place for place, name in enumerate(sorted(set(self.regions.image_id.tolist())))}

    @cached_property
    def _of_protocols(self) -> WeakValueDictionary[str, ProtocolSamples]:
        """The parts that somebody holds: what they computed is large, and is shared as long as it is in use."""
        return WeakValueDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """The fields, to be pickled without what was computed of them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_pandas(self, rows: str = "images") -> pd.DataFrame:
        """Make a data frame with one row per image and view, or per true (image, class) pair of `strict`.

        Args:
            rows: "images" or "pairs".

        Returns:
            Of images, with the columns image_id, view, height, width, has_mask, loss, confidence, accuracy, ji, targets
            (a list of class indices) and logits (C,); of pairs, with those of `torchvice.measures.Pairs.to_pandas`.

        Raises:
            ViceError: pandas is not installed; `rows` is something else; there are no pairs without `strict`.
        """
        return pandas_frame(self._columns(rows))

    def to_polars(self, rows: str = "images") -> pl.DataFrame:
        """The same as `to_pandas`, as a data frame of polars.

        Raises:
            ViceError: polars is not installed; else as `to_pandas`.
        """
        return polars_frame(self._columns(rows))

    def _columns(self, rows: str) -> dict[str, Any]:
        if rows == "pairs":
            # Imported by name, when it is asked for: `measures` imports this package.
            columns: dict[str, Any] = import_module("torchvice.measures").true_pairs(self).columns(self.classes)
            return columns
        if rows != "images":
            raise ViceError(f'`rows` must be "images" or "pairs", but is {rows!r}.')
        images = self.images
        frame = {name: getattr(images, name) for name in ("image_id", "view", "height", "width", "has_mask")}
        frame |= {name: getattr(images, name) for name in ("loss", "confidence", "accuracy", "ji")}
        frame["targets"] = [np.flatnonzero(row).tolist() for row in images.targets]
        frame["logits"] = list(images.logits)
        return frame

    def __repr__(self) -> str:
        explanations = len(self.manifest["explanations"])
        rows = f"{len(self.images)} rows of images, {len(self.regions)} of regions"
        return f"Samples({rows}, {len(self.classes)} classes, {explanations} explanations)"

    def _repr_html_(self) -> str:
        """HTML for notebooks: what the table holds."""
        # Imported by name, when a notebook calls it: `report` imports this package.
        html: str = import_module("torchvice.report.notebook").samples_html(self)
        return html

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> Samples:
        """Read the table that `vice assess` wrote to a folder.

        Raises:
            ViceError: the manifest is missing or has another schema, a shard is damaged, or none is finished.
        """
        return Samples(*ShardFolder(folder).read())

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the table as a manifest and one shard; the folder must not hold a table."""
        shards = ShardFolder(folder)
        if shards.manifest_path.exists():
            raise ViceError(f"{folder} already holds a table.")
        # The shard holds all rows: no explanation lies beside it, and the files are not those of another folder.
        manifest = {**self.manifest, "added": [], "adding": {}, "files": {}}
        shards.start(manifest)
        shards.append(self.images, self.regions, self.maps)
        shards.start({**manifest, "files": shards.digests()})
        return shards.folder


@dataclass(frozen=True)
class ProtocolSamples:
    """The part of a table that one protocol measures: `images` of its view and `regions` of its headline explanation.

    Under `strict`, probabilities are float64, and images of exclusive targets have a softmax, one prediction and the
    cross-entropy. `paper` stays as published: a sigmoid in float32 and the multi-label loss, whatever the targets are.
    """

    samples: Samples
    protocol: str

    @property
    def view(self) -> str:
        """The view of the images."""
        return str(self.samples.manifest["protocols"][self.protocol]["view"])

    @property
    def explanation(self) -> str:
        """The id of the headline explanation."""
        return str(self.samples.manifest["protocols"][self.protocol]["explanation"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the maps of the headline explanation were made."""
        settings: Mapping[str, Any] = self.samples.manifest["explanations"][self.explanation]
        return settings

    @property
    def exclusive(self) -> bool:
        """Whether the classes exclude each other: exclusive targets, measured under `strict`."""
        return self.samples.exclusive and self.protocol == "strict"

    @cached_property
    def images(self) -> Images:
        """The image rows, ordered by image id."""
        return self.samples.of_view(self.view)

    @cached_property
    def regions(self) -> Regions:
        """The region rows, ordered by image id and label."""
        return self.samples.of_explanation(self.explanation)

    @cached_property
    def losses(self) -> np.ndarray:
        """(N,) nats: the loss of every image."""
        return losses(self.images.logits, self.images.targets, self.exclusive)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(N, C) in [0, 1]: the probability of every class."""
        logits = self.images.logits
        return probabilities(logits.astype(float) if self.protocol == "strict" else logits, self.exclusive)

    @cached_property
    def true_labels(self) -> TrueLabels:
        """What the model says of every true label."""
        images = self.images
        return TrueLabels.of(images.logits, images.targets, self.probabilities, self.predicted, self.exclusive)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(N, C) bool: the predicted classes."""
        return predicted(self.probabilities, self.exclusive)
