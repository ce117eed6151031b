"""Files that lie where images or masks are looked for, but have a suffix that is not read: what to say of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

__all__ = [
    "BARE_SUFFIXES",
    "LOSSY",
    "LOSSY_WAY_OUT",
    "MASK_SUFFIXES",
    "other_files",
    "other_images",
    "suffixes_found",
    "way_out_of",
]

BARE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # without loss
LOSSY = (".jpg", ".jpeg", ".webp")
LOSSY_WAY_OUT = (
    'Convert each of 0 and 255: Image.open(mask).convert("L").point(lambda v: 255 * (v > 127)).save(new_mask).'
)
# Of photographs and scans in formats that are not read.
OTHER_IMAGES = (
    *(".gif", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".jpe", ".ppm", ".pgm", ".tga", ".psd"),
    *(".dcm", ".dng", ".nef", ".cr2", ".arw", ".raw"),
)
COMPRESSED = (".gz", ".bz2", ".xz")
_LOADED = {
    ".npy": "np.load('{file}')",
    ".npz": "next(iter(np.load('{file}').values()))",
}


def other_files(folder: Path, read: Collection[str]) -> Iterator[tuple[str, Path]]:
    """The files of a folder and its sub-folders with another suffix than those in `read`, each with its name.

    The name is that inside the folder, without suffix; of a.nii.gz it is a. Hidden files are left out.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            path = Path(place, name)
            suffix = path.suffix.lower()
            if name[0] != "." and suffix and suffix not in read:
                inside = path.relative_to(folder).with_suffix("")
                yield (inside.with_suffix("") if suffix in COMPRESSED else inside).as_posix(), path


def other_images(folder: Path, apart: Path | None = None) -> tuple[Path, ...]:
    """The images of a folder and its sub-folders, except one, in formats that are not read."""
    found = [file for _, file in other_files(folder, BARE_SUFFIXES) if file.suffix.lower() in OTHER_IMAGES]
    return tuple(file for file in found if apart is None or apart.resolve() not in file.resolve().parents)


def suffixes_found(folder: Path, read: Collection[str]) -> str:
    """A phrase on the files of other suffixes in a folder, by their number: "6 .npy and 1 .txt"; "" without any."""
    counts = Counter(path.suffix.lower() for _, path in other_files(folder, read))
    parts = [f"{count} {suffix}" for suffix, count in counts.most_common(3)]
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def way_out_of(mask: Path) -> str:
    """How to make a mask that can be read of a file with another suffix."""
    suffix = mask.suffix.lower()
    read = f"Masks are read from {', '.join(MASK_SUFFIXES[:-1])} and {MASK_SUFFIXES[-1]} files."
    if suffix in LOSSY:
        return f"{read} {LOSSY_WAY_OUT}"
    png = mask.with_suffix(".png")
    if suffix in _LOADED:
        loaded = _LOADED[suffix].format(file=mask)
        return f"{read} Save each as PNG: Image.fromarray({loaded}.squeeze().astype('uint8')).save('{png}')."
    coco = " A COCO file is given as --coco FILE." if suffix == ".json" else ""
    return (
        f"{read} Save the labels of each, an (H, W) array, as PNG: "
        f"Image.fromarray(labels.astype('uint8')).save('{png}').{coco}"
    )
