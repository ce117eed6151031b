"""Write a table as a FiftyOneDataset: a folder that FiftyOne imports."""

from __future__ import annotations

import json
import mimetypes
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.commands.tables import check_unchanged, dataset_of, load_samples
from torchvice.errors import ViceError, did_you_mean
from torchvice.fiftyone.documents import object_id
from torchvice.fiftyone.pictures import heatmap, write_grey
from torchvice.fiftyone.sample import SampleTable, sample_document
from torchvice.fiftyone.views import dataset_document
from torchvice.files import atomic_folder, write_json
from torchvice.samples import Samples

if TYPE_CHECKING:
    from torchvice.data import FolderDataset

__all__ = ["MEDIA", "write_fiftyone"]

MEDIA = ("copy", "link", "reference")


def write_fiftyone(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: str | None = None,
    media: str = "copy",
    masks: bool = True,
    explanations: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the table of a RUN as a dataset in FiftyOne's own format, `fiftyone.types.FiftyOneDataset`.

    Each image becomes a sample: `ground_truth` and `predictions`, the mask as `segmentation` (of a table that was
    assessed on boxes, `boxes`), a heatmap field per class, and `loss`, `ji`, `map_iou`, `confidence` and `accuracy`.
    Each true label has `probability`, `loss`, `iou`, `area`, `quadrant` and `strength`. Undefined values are null.
    FiftyOne is not required.

    Args:
        path: a RUN, or the folder of a table.
        out: the folder, new or empty; it is written completely or not at all.
        split: a split of the RUN.
        media: "copy" copies the images into the folder, "link" makes symbolic links, "reference" names the originals.
        masks: whether to write masks (as grey PNG) or boxes.
        explanations: ids of further explanations, shown in addition to the headline.
        progress: called with the images so far and their number.

    Returns:
        The number of samples.

    Raises:
        ViceError: a folder that is not empty, missing images, an unknown medium or explanation; see also
            `torchvice.commands.tables.load_samples`.
    """
    out = Path(out)
    if media not in MEDIA:
        raise ViceError(f"`media` must be one of {', '.join(MEDIA)}, but is {media!r}.", did_you_mean(media, MEDIA))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ViceError(f"The folder of a dataset must be new or empty, but {out} is not.", "Give another folder.")
    samples = load_samples(path, split)
    table, dataset = SampleTable.of(samples, explanations), _dataset(samples)
    regions = samples.manifest["dataset"].get("regions", "masks") if masks else ""
    with atomic_folder(out) as part:
        writer = _Writer(part, table, dataset, media, regions)
        _write_samples(part / "samples.json", writer.samples(progress))
        name = str((samples.manifest.get("made_by") or {}).get("run") or Path(path).resolve().name)
        kind: dict[str, Any] = {"exclusive": table.exclusive, "regions": regions, "maps": table.heatmaps}
        write_json(part / "metadata.json", dataset_document(name, table.cases, manifest=samples.manifest, **kind))
    return len(table.cases)


def _dataset(samples: Samples) -> FolderDataset:
    dataset = dataset_of(samples)
    if dataset is None and not samples.manifest["dataset"].get("root"):
        raise ViceError(
            "The export needs image files, but the table names no folder of its dataset.",
            "Save the images as files and assess these: --images DIR.",
        )
    if dataset is None:
        raise ViceError(
            f"The images of the table are not in {samples.manifest['dataset'].get('root')}.",
            "Run the command in the folder where the assessment was started.",
        )
    check_unchanged(samples, dataset)
    return dataset


def _write_samples(path: Path, documents: Iterator[dict[str, Any]]) -> None:
    """Write one document at a time, so that memory does not grow with their number."""
    with open(path, "w", encoding="ascii") as file:
        file.write('{"samples": [')
        for place, document in enumerate(documents):
            file.write(",\n" if place else "\n")
            file.write(json.dumps(document, allow_nan=False))
        file.write("\n]}\n")


class _Writer:
    """Writes the samples of a table and their files."""

    def __init__(self, folder: Path, table: SampleTable, dataset: FolderDataset, media: str, regions: str) -> None:
        self.folder, self.table, self.dataset = folder, table, dataset
        self.media, self.regions = media, regions
        self.place = {record.image_id: index for index, record in enumerate(dataset.records)}
        absent = [str(name) for name in table.cases.image_id if name not in self.place]
        if absent:
            raise ViceError(
                f"The images of the table must be in the dataset, but `{absent[0]}` is not ({len(absent)} are missing)."
            )

    def samples(self, progress: Callable[[int, int], None] | None) -> Iterator[dict[str, Any]]:
        """Yield every sample after writing its files."""
        count = len(self.table.cases)
        for row in range(count):
            yield self._sample(row)
            if progress is not None:
                progress(row + 1, count)

    def _sample(self, row: int) -> dict[str, Any]:
        index = self.place[self.table.cases.image_id[row]]
        image = self.dataset.records[index].image
        kind, _ = mimetypes.guess_type(image.name)
        height, width = int(self.table.cases.height[row]), int(self.table.cases.width[row])
        size = {"size_bytes": image.stat().st_size, "mime_type": kind, "width": width, "height": height}
        return {
            "filepath": self._picture(row, image),
            "metadata": {"_cls": "ImageMetadata", **size},
            **self._region(row, index),
            **sample_document(self.table, row, self._paint),
        }

    def _picture(self, row: int, image: Path) -> str:
        """The path of the picture: relative to the folder, or the original one."""
        if self.media == "reference":
            return str(image.absolute())
        path = f"data/{self._name(row)}{image.suffix}"
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.media == "link":
            target.symlink_to(image.absolute())
        else:
            shutil.copyfile(image, target)
        return path

    def _paint(self, field: str, plane: np.ndarray, row: int) -> str:
        size = (int(self.table.cases.height[row]), int(self.table.cases.width[row]))
        path = f"fields/{field}/{self._name(row)}.png"
        write_grey(self.folder / path, heatmap(plane, size))
        return path

    def _region(self, row: int, index: int) -> dict[str, Any]:
        """The field of the mask or of the boxes."""
        image_id = str(self.table.cases.image_id[row])
        if self.regions == "masks":
            mask = self.dataset.mask(index)
            if mask is None:
                return {"segmentation": None}
            path = f"fields/segmentation/{self._name(row)}.png"
            write_grey(self.folder / path, mask)
            identity = object_id(self.table.key, image_id, "segmentation")
            return {"segmentation": {"_id": identity, "_cls": "Segmentation", "tags": [], "mask_path": path}}
        objects = self.dataset.boxes(index) if self.regions == "boxes" else None
        if objects is None:
            return {"boxes": None} if self.regions == "boxes" else {}
        height, width = int(self.table.cases.height[row]), int(self.table.cases.width[row])
        boxes = [
            {
                "_id": object_id(self.table.key, image_id, "boxes", str(place)),
                "_cls": "Detection",
                "attributes": {},
                "tags": [],
                "label": self.table.cases.classes[c],
                "bounding_box": [left / width, top / height, (right - left) / width, (bottom - top) / height],
            }
            for place, (c, (left, top, right, bottom)) in enumerate(zip(*map(np.ndarray.tolist, objects), strict=True))
        ]
        return {"boxes": {"_cls": "Detections", "detections": boxes}}

    def _name(self, row: int) -> str:
        """The image's id, which may be a path; its number, if that leaves the folder or is not printable."""
        name = str(self.table.cases.image_id[row])
        parts = PurePosixPath(name).parts
        fits = not PurePosixPath(name).is_absolute() and ".." not in parts and "/".join(parts) == name
        return name if fits and name.isprintable() else f"{row:06d}"
