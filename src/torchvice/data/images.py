"""Read and check the files of images and masks."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from torchvice.data.named_values import suggestion
from torchvice.data.palettes import palette_values, refuse_unordered
from torchvice.data.tiff import loaded_as_stored, size_as_stored
from torchvice.errors import ViceError
from torchvice.files import existing_file
from torchvice.metrics.overlap import VOID, void_of

__all__ = [
    "DAMAGE",
    "FORMATS",
    "VOID",
    "Least",
    "TooManyPixels",
    "check_mask",
    "check_same_size",
    "is_rotated",
    "no_class",
    "present_values",
    "read_colours",
    "read_grey_mask",
    "read_image",
    "read_mask",
    "refuse_narrow_void",
    "stored_size",
    "voc_palette",
    "void_of",
]

# Named at every opening: Pillow would otherwise try all it knows, and start Ghostscript on a PostScript file.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
COPY_AGAIN = "Copy or download it again, or leave it out: remove the file, and its name where a list has it."
MANY = 8  # values without a label in one mask: more are soft edges, or no mask
ASSUMED = 20  # classes, VOC's, where nobody names them
PREVIEWS = ("JPEG", "MPO")  # of a camera: the pictures behind the first are previews and depth
# What Pillow's decoders raise on a damaged file, by format and by where the damage is. TypeError: a further page of a
# TIFF that has no size.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


Least = Callable[[tuple[int, int]], tuple[int, int]]


class TooManyPixels(ViceError):
    """An image with more pixels than Pillow opens; it is not damaged."""

    @classmethod
    def of(cls, path: Path, what: str) -> TooManyPixels:
        """The error of a file."""
        return cls(
            f"{what} {path} must have at most {cls.most():,} pixels, but has more.",
            "Cut the image and its mask into tiles, or reduce both to the same size.",
        )

    @staticmethod
    def most() -> int:
        """The largest number of pixels that Pillow opens: it warns from half of it."""
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)


def _decoded(path: str | os.PathLike[str], what: str, least: Least | None = None) -> tuple[Image.Image, str]:
    """Read an image and how its pixels are stored (Pillow's raw mode).

    All pixels are decoded here, so that a truncated file is noticed now. `least`: see `read_image`.
    """
    path = existing_file(path, what)
    try:
        # From a path, Pillow maps an uncompressed TIFF into memory, and mixes up rows and columns where it turns it.
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as picture:
            stored = str(picture.tile[0][3]) if picture.tile else picture.mode
            frames = 1 if picture.format in PREVIEWS else getattr(picture, "n_frames", 1)
            if least is not None:
                height, width = least((picture.height, picture.width))
                picture.draft(None, (width, height))  # JPEG only; has no effect on other formats
            decoded = loaded_as_stored(picture)
    except UnidentifiedImageError:
        raise _no_image(path, what) from None
    except Image.DecompressionBombError:
        raise TooManyPixels.of(path, what) from None
    except DAMAGE as error:
        raise ViceError(f"{what} {path} is damaged or truncated: {error}.", COPY_AGAIN) from None
    if frames > 1:
        raise ViceError(
            f"{what} {path} must be one picture, but holds {frames} frames or pages.",
            "Save the one that is meant: Image.open(path) shows the first, after .seek(1) the second.",
        )
    return decoded, stored


def _no_image(path: Path, what: str) -> ViceError:
    """The error of a file that is empty or of no format that is read: an image of another format, or no image."""
    if not path.stat().st_size:
        return ViceError(f"{what} {path} must be an image ({', '.join(FORMATS)}), but is empty.", COPY_AGAIN)
    return ViceError(
        f"{what} {path} must be an image ({', '.join(FORMATS)}), but is not.",
        f"Save it as PNG or JPEG if another program opens it. Else {COPY_AGAIN[0].lower()}{COPY_AGAIN[1:]}",
    )


def read_image(path: str | os.PathLike[str], least: Least | None = None) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8, RGB.

    Args:
        path: the file.
        least: from (H, W) of the image to the least size that will do. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its
            size where that is no less: faster, and not the same pixels as those of a resized image. None: the whole.

    The EXIF orientation is not applied: masks are drawn on the pixels as stored, and a rotated image would no longer
    match its mask. Grey and palette images become RGB; transparency is dropped.

    Raises:
        ViceError: the file is missing, not an image, truncated, or has more than 8 bits per channel.
    """
    picture, _ = _decoded(path, "The image", least)
    if picture.mode.startswith(("I", "F")):
        raise ViceError(
            f"The image {path} must have 8 bits per channel, but its mode is {picture.mode}.",
            "Save it with 8 bits: Image.fromarray((np.asarray(image) / largest * 255).astype('uint8')), where "
            "`largest` is that of its format, such as 65535 for 16 bits.",
        )
    return np.array(picture.convert("RGB"))


def read_mask(path: str | os.PathLike[str], what: str = "The mask") -> np.ndarray:
    """Read the labels of a mask: (H, W) uint8 of a palette or grey image, or int32 of 16-bit grey.

    The indices of a palette image are the labels, not its colours: 0 background, c + 1 class c, 255 void; see
    `torchvice.data.palettes` for GIF. `what` is the file's name in messages.

    Raises:
        ViceError: the file is missing, not an image, truncated, in colour, or has fewer than 8 bits of grey; a palette
            whose indices are no labels.
    """
    picture, stored = _decoded(path, what)
    refuse_unordered(picture, f"{what} {path}")
    if picture.mode == "P":
        return palette_values(picture, f"{what} {path}")
    # Pillow scales grey of 1, 2 and 4 bits to 0..255, which would multiply the labels.
    if picture.mode == "L" and stored not in ("L;2", "L;4"):
        return np.array(picture)
    if picture.mode.startswith("I"):
        return np.array(picture).astype(np.int32)
    kind = {"1": "1 bit of grey", "L": f"{stored[-1:]} bits of grey"}.get(picture.mode, picture.mode)
    raise ViceError(
        f"{what} {path} must be a palette PNG or a grey one of 8 or 16 bits, but is {kind}.",
        "Save the label indices themselves (0 background, c + 1 class c, 255 void), not their colours.",
    )


def read_grey_mask(path: str | os.PathLike[str], labels: bool = False) -> np.ndarray:
    """Read a mask as `read_mask`, and further forms in which programs write masks of 0 and 255.

    1 bit a pixel becomes 0 and 255, and a grey palette that does not begin with black its greys; of an image in RGB
    whose channels are equal, one is taken; alpha is dropped.

    Args:
        path: the file.
        labels: whether 255 is void; forms in which white is the object are then refused.

    Raises:
        ViceError: see `read_mask`.
    """
    picture, stored = _decoded(path, "The mask")
    if picture.mode == "P":
        if labels:
            refuse_unordered(picture, f"The mask {path}")
        return palette_values(picture, f"The mask {path}")
    if picture.mode == "1" or stored in ("L;2", "L;4"):
        grey = np.array(picture.convert("L"))
        if np.isin(grey, 0 if labels else (0, 255)).all():
            return grey
    if picture.mode in ("LA", "RGB", "RGBA"):
        channels = np.array(picture)[..., : {"LA": 1}.get(picture.mode, 3)]
        if (channels == channels[..., :1]).all():
            return np.ascontiguousarray(channels[..., 0])
    return read_mask(path)


def read_colours(path: str | os.PathLike[str]) -> np.ndarray:
    """The colours of a mask, (H, W, 3) uint8; those of the palette, where it has one.

    Raises:
        ViceError: no such file, no image, truncated, or more than 8 bits a channel.
    """
    picture, _ = _decoded(path, "The mask")
    if picture.mode.startswith(("I", "F")):
        raise ViceError(
            f"The mask {path} must have colours of 8 bits a channel, but its mode is {picture.mode}.",
            "Save it with colours of 8 bits a channel, or name values, not colours, in dataset.yaml.",
        )
    return np.array(picture.convert("RGB"))


def present_values(mask: np.ndarray) -> np.ndarray:
    """The distinct values of a mask, ascending."""
    if mask.dtype == np.uint8:  # counting is several times faster than the sort in np.unique
        return np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    return np.unique(mask)


def check_mask(mask: np.ndarray, num_classes: int, path: str | os.PathLike[str]) -> np.ndarray:
    """Check the labels of `mask`, and return those that occur, ascending, without background and void.

    Args:
        mask: (H, W) integers.
        num_classes: C, without background.
        path: its file, for the message.

    Raises:
        ViceError: a value other than 0..C and void; or 255 in 8 bits, where it may be void and a class.
    """
    void = void_of(num_classes)
    refuse_narrow_void(mask, num_classes, f"The mask {path}")
    values = present_values(mask)
    values = values[values != void]
    outside = values[(values < 0) | (values > num_classes)]
    if outside.size:
        raise _unlabelled(path, num_classes, present_values(mask).tolist(), outside.tolist())
    return values[values != 0]


def _unlabelled(path: str | os.PathLike[str], classes: int, found: Sequence[int], outside: Sequence[int]) -> ViceError:
    """The error of a mask with values that are no labels; the way out fits the form that the values have."""
    void = void_of(classes)
    message = f"The mask {path} must hold 0 to {classes} and {void}, but holds {outside[0]}"
    objects = [value for value in found if value not in (0, void)]
    if {1, 2} <= set(found) <= {1, 2, 3}:
        return ViceError(
            f"{message} and no 0: it looks like a trimap.",
            "If 1 is the object, 2 the background and 3 void, write that in dataset.yaml, in a folder with lists: "
            "`names: {object: 1}`, `background: 2`, `void: 3`. "
            "Else give all classes in classes.txt, one name per line.",
        )
    if len(outside) > max(MANY, classes):
        return ViceError(
            f"{message} and {len(outside) - 1} more such values: its edges may be soft, or it is no mask.",
            f"Masks of one object with soft edges: --images DIR --masks {quote(str(Path(path).parent))} "
            f"{suggestion(set(found))}. If the values are classes, name all of them in classes.txt, one name per line.",
        )
    if len(objects) == 1 and (classes == 1 or (classes == ASSUMED and objects[0] > 2 * classes)):
        return ViceError(
            f"{message}.",
            f"If {objects[0]} is the one object, write its value in dataset.yaml, in a folder with lists: "
            f"`names: {{object: {objects[0]}}}`. Else give the classes of the masks in classes.txt, one name per line.",
        )
    way_out = "Give all classes of the masks in classes.txt, one name per line, or in --classes, which goes before it."
    if objects[-1] > 2 * classes:
        values = ", ".join(f"{name}: {value}" for name, value in zip("abcde", objects, strict=False))
        values += ", ..." * (min(len(objects), len("abcde")) < max(len(objects), classes))
        way_out += (
            " If they are not numbered 1, 2 and so on, write each value in dataset.yaml, in a folder with lists: "
            f"`names: {{{values}}}`."
        )
    return ViceError(f"{message}.", way_out)


def refuse_narrow_void(mask: np.ndarray, num_classes: int, name: str) -> None:
    """Refuse 255 in a mask of 8 bits for more than 254 classes: it is void in 8 bits, and the label of a class.

    Args:
        mask: as it is in the file.
        num_classes: C, without background.
        name: of the mask, for the message.
    """
    if mask.dtype == np.uint8 and num_classes >= VOID and (mask == VOID).any():
        raise ViceError(
            f"{name} has 8 bits and holds {VOID}, which is void in 8 bits and one of the {num_classes} classes here.",
            f"Save it with 16 bits: class c, counted from 0, is c + 1, and void is {void_of(num_classes)}.",
        )


def no_class(where: str, classes: Sequence[str]) -> ViceError:
    """The error of a split, or folder, whose masks hold no class: with 0 and 255 on the object, all of it is void."""
    void = void_of(len(classes))
    names = classes if len(classes) < 3 else ["object"]
    code = ", ".join(f"{name}: {value}" for name, value in zip(names, (void, 128), strict=False))
    return ViceError(
        f"The masks of {where} must hold classes (1 to {len(classes)}), but hold no class at all, only 0 (background) "
        f"or {void} (void).",
        f"If {void} is an object, name the value of every class in dataset.yaml, such as `names: {{{code}}}`.",
    )


def check_same_size(mask: np.ndarray, size: tuple[int, int], path: str | os.PathLike[str]) -> None:
    """Check that a mask has the size of its image.

    Args:
        mask: (H, W).
        size: (H, W) of the image.
        path: the mask's file, for the message.

    Raises:
        ViceError: the sizes differ.
    """
    if mask.shape != size:
        raise ViceError(
            f"The mask {path} must be {size[0]} x {size[1]} (H x W) like its image, "
            f"but is {mask.shape[0]} x {mask.shape[1]}.",
            "Masks are drawn on the pixels as stored, before any EXIF rotation.",
        )


def stored_size(path: Path, what: str = "The image") -> tuple[int, int]:
    """Read (H, W) of an image file from its header."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return size_as_stored(picture)
    except UnidentifiedImageError:
        raise _no_image(path, what) from None
    except Image.DecompressionBombError:
        raise TooManyPixels.of(path, what) from None
    except DAMAGE as error:
        raise ViceError(
            f"{what} {path} must be an image ({', '.join(FORMATS)}), but cannot be read: {error}.", COPY_AGAIN
        ) from None


def is_rotated(path: Path) -> bool:
    """Whether an image that can be read has an EXIF orientation, which viewers apply and `read_image` does not."""
    with Image.open(path, formats=FORMATS) as picture:
        try:
            return picture.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)
        except DAMAGE:
            return False


def voc_palette() -> bytes:
    """VOC's colour map, (256, 3) bytes: a label's bits go in turn to red, green, blue, top bit first."""
    label = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((label >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()
