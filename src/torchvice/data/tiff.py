"""TIFF as stored: Pillow turns images to their orientation, which masks do not follow."""

from __future__ import annotations

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

__all__ = ["loaded_as_stored", "size_as_stored"]

UPRIGHT = (0, 1)  # no orientation, or none to apply
# What undoes the step of each orientation in Pillow's `ImageOps.exif_transpose`.
UNDONE_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def loaded_as_stored(picture: Image.Image) -> Image.Image:
    """Load an image, and return it with its pixels as stored."""
    before = _orientation(picture) if isinstance(picture, TiffImageFile) else 1
    picture.load()
    # Pillow removes an orientation that it has applied.
    if before in UNDONE_BY and _orientation(picture) in UPRIGHT:
        return picture.transpose(UNDONE_BY[before])
    return picture


def size_as_stored(picture: Image.Image) -> tuple[int, int]:
    """(H, W) of an image that is not loaded: the size in the header, which Pillow turns for a TIFF."""
    if isinstance(picture, TiffImageFile):
        return int(picture.tag_v2[IMAGELENGTH]), int(picture.tag_v2[IMAGEWIDTH])
    return picture.height, picture.width


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation of an image; 1 without one that can be read."""
    value = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) else 1
