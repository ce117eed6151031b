"""VOC 2012 with the masks of SBD: from two published archives to the layout that torchvice reads."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torchvice.data.annotations import class_indices, read_annotation
from torchvice.data.archives import (
    MEBIBYTE,
    Progress,
    Room,
    Source,
    fetch_all,
    reading,
    safe_name,
    unpack_tar,
)
from torchvice.data.building import building
from torchvice.data.images import check_mask, check_same_size, read_mask, stored_size, voc_palette
from torchvice.data.lists import VOC_CLASSES, read_list
from torchvice.data.written import read_written
from torchvice.errors import ViceError
from torchvice.files import write_json, write_npy_dict, write_text

__all__ = ["PUBLISHED", "VocSet", "voc_sources", "write_voc"]

PUBLISHED = {"train": 1464, "val": 1449, "train_aug": 10582}  # images of each list
NAMES = ("train.txt", "val.txt", "train_aug.txt", "cls_labels.npy", "VOC2012", "voc.json")


@dataclass(frozen=True)
class VocSet:
    """The number of images of each list and of masks from SBD; `verified`: the archives had the published checksums."""

    train: int
    val: int
    train_aug: int
    masks_of_sbd: int
    verified: bool


def _lengths(written: VocSet) -> dict[str, int]:
    return {f"{name}.txt": getattr(written, name) for name in PUBLISHED}


def voc_sources() -> dict[str, Source]:
    """Return address, name and MD5 of the archives `voc` and `sbd`, from torchvision."""
    from torchvision.datasets import SBDataset  # type: ignore[import-untyped]
    from torchvision.datasets.voc import DATASET_YEAR_DICT  # type: ignore[import-untyped]

    voc = DATASET_YEAR_DICT["2012"]
    return {
        "voc": Source(voc["url"], voc["filename"], voc["md5"]),
        "sbd": Source(SBDataset.url, SBDataset.filename, SBDataset.md5),
    }


def write_voc(
    root: str | os.PathLike[str],
    archives: str | os.PathLike[str] | None = None,
    *,
    sources: Mapping[str, Source] | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> VocSet:
    """Write VOC 2012 with SBD's masks into `root`: VOC2012/, train.txt, val.txt, train_aug.txt, cls_labels.npy.

    SegmentationClassAug holds VOC's own masks, and SBD's for images without one. train_aug.txt is VOC's train list,
    then SBD's train and val lists without the images of VOC's val. The labels are those of the annotations, difficult
    objects included. The dataset is written completely or not at all; an existing one is left unchanged.

    Args:
        root: the dataset's folder.
        archives: the folder of the archives, which are downloaded to it if missing; None: archives/ in `root`.
        sources: the archives `voc` and `sbd`; None: `voc_sources()`.
        verify: refuse archives that do not have the checksums of `sources`.
        progress: called in each step with the MiB so far and their total.
        tell: called with a sentence at the start of each step.

    Raises:
        ViceError: an archive that cannot be downloaded, has another checksum, is damaged or has another structure; too
            little disk space; a folder that holds something else.

    References:
        The PASCAL Visual Object Classes Challenge 2012; Semantic Contours from Inverse Detectors (2011).
    """
    root = Path(root)
    if (root / "voc.json").is_file():
        return read_written(root / "voc.json", VocSet, _lengths)
    folder = root / "archives" if archives is None else Path(archives)
    known = dict(voc_sources() if sources is None else sources)
    if not verify:
        known = {name: replace(source, md5=None) for name, source in known.items()}
    say = tell or (lambda sentence: None)
    # The tar is not compressed; of SBD only the masks are kept.
    files = fetch_all(known, folder, root, {"voc": 1.05, "sbd": 0.1}, progress, say)
    with building(root, NAMES) as part:
        say(f"Unpacking {files['voc'].name}")
        _unpack_voc(files["voc"], part, progress)
        say(f"Reading the masks of {files['sbd'].name}")
        lists, count = _take_sbd(files["sbd"], part / "VOC2012", progress)
        images = _write_lists(part, lists)
        written = VocSet(**images, masks_of_sbd=count, verified=all(source.md5 for source in known.values()))
        write_json(part / "voc.json", asdict(written))
    return written


def _unpack_voc(archive: Path, part: Path, progress: Progress | None) -> None:
    unpacked = part / "unpacked"
    unpacked.mkdir()
    unpack_tar(archive, unpacked, progress)
    voc = unpacked / "VOCdevkit" / "VOC2012"
    needed = ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation")
    lacking = [name for name in needed if not (voc / name).is_dir()]
    if lacking:
        raise ViceError(f"The archive {archive} must hold VOCdevkit/VOC2012/{lacking[0]}, but does not.")
    voc.rename(part / "VOC2012")
    masks = part / "VOC2012" / "SegmentationClassAug"
    masks.mkdir(exist_ok=True)
    for mask in (part / "VOC2012" / "SegmentationClass").glob("[!.]*.png"):  # not the ._x.png of macOS
        (masks / mask.name).write_bytes(mask.read_bytes())


def _take_sbd(archive: Path, voc: Path, progress: Progress | None) -> tuple[dict[str, list[str]], int]:
    """Write SBD's masks of the images without one; return SBD's lists and the number of masks written.

    The archive is read as a stream: of its 1.4 GB only the masks are kept.
    """
    own = {mask.stem for mask in (voc / "SegmentationClass").glob("[!.]*.png")}
    images = {image.stem for image in (voc / "JPEGImages").iterdir()}
    lists: dict[str, list[str]] = {}
    count, size, room = 0, archive.stat().st_size, Room(archive)
    with reading(archive), archive.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            path = safe_name(member.name, archive)
            kind = "/".join(path.parts[1:-1])
            if not member.isfile() or path.name.startswith(".") or path.parts[0] != "benchmark_RELEASE":
                continue
            room.take(member)
            if kind == "dataset" and path.name in ("train.txt", "val.txt"):
                lists[path.stem] = _member(tar, member).decode("utf-8").split()
            elif kind == "dataset/cls" and path.suffix == ".mat" and path.stem not in own:
                _write_mask(_sbd_mask(_member(tar, member), path.name), voc / f"SegmentationClassAug/{path.stem}.png")
                count += 1
            elif kind == "dataset/img" and path.suffix == ".jpg" and path.stem not in images:
                (voc / "JPEGImages" / path.name).write_bytes(_member(tar, member))
            if progress:
                progress(file.tell() // MEBIBYTE, size // MEBIBYTE)
    for name in ("train", "val"):
        if name not in lists:
            raise ViceError(f"The archive {archive} must hold benchmark_RELEASE/dataset/{name}.txt, but does not.")
    return lists, count


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None  # a file
    return opened.read()


def _sbd_mask(content: bytes, name: str) -> np.ndarray:
    """Read GTcls.Segmentation of a file of SBD."""
    from scipy.io import loadmat

    try:
        mask = np.asarray(loadmat(io.BytesIO(content))["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # scipy may raise anything on a damaged file
        raise ViceError(f"SBD's mask {name} must be a MATLAB file with GTcls.Segmentation: {error!r}.") from None
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ViceError(f"SBD's mask {name} must be (H, W) uint8, but is {mask.shape} {mask.dtype}.")
    check_mask(mask, len(VOC_CLASSES), name)
    return mask


def _write_mask(mask: np.ndarray, file: Path) -> None:
    picture = Image.fromarray(mask)
    picture.putpalette(voc_palette())
    picture.save(file)


def _write_lists(part: Path, sbd: Mapping[str, list[str]]) -> dict[str, int]:
    voc = part / "VOC2012"
    sets = voc / "ImageSets" / "Segmentation"
    lists = {name: read_list(sets / f"{name}.txt") for name in ("train", "val")}
    held_out = set(lists["val"])
    more = (name for name in (*sbd["train"], *sbd["val"]) if name not in held_out)
    lists["train_aug"] = list(dict.fromkeys((*lists["train"], *more)))
    for name, ids in lists.items():
        for file in (part / f"{name}.txt", sets / f"{name}.txt"):
            write_text(file, "".join(f"{image_id}\n" for image_id in ids))
    every = dict.fromkeys(image_id for ids in lists.values() for image_id in ids)
    write_npy_dict(part / "cls_labels.npy", _labels(voc, every))
    return {name: len(ids) for name, ids in lists.items()}


def _labels(voc: Path, image_ids: Iterable[str]) -> dict[str, Any]:
    """Read {image id: (20,) float32} from the annotations, or from masks of images without one; check every file."""
    known = {name: index for index, name in enumerate(VOC_CLASSES)}
    labels = {}
    for image_id in image_ids:
        image, mask = voc / f"JPEGImages/{image_id}.jpg", voc / f"SegmentationClassAug/{image_id}.png"
        for file, what in ((image, "image"), (mask, "mask")):
            if not file.is_file():
                raise ViceError(f"The archives must hold the {what} of `{image_id}`, which is in a list, but do not.")
        labels[image_id] = np.zeros(len(VOC_CLASSES), dtype=np.float32)
        pixels = read_mask(mask)
        check_same_size(pixels, stored_size(image), mask)
        annotation = voc / f"Annotations/{image_id}.xml"
        if annotation.is_file():
            present = class_indices(read_annotation(annotation), known, annotation)
        else:
            present = (check_mask(pixels, len(VOC_CLASSES), mask) - 1).tolist()
        labels[image_id][present] = 1
    return labels
