"""The embedded set: real handwritten digits pasted on photographs, in the layout of VOC 2012."""

from __future__ import annotations

import colorsys
import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from torchvice.data.images import VOID, voc_palette
from torchvice.data.shortcuts import DEFAULT_KIND, DEFAULT_STRENGTH, Canvas, bears, check_shortcut, plant
from torchvice.errors import ViceError
from torchvice.files import atomic_folder, read_json, write_json, write_npy_dict, write_text

__all__ = ["DIGIT_CLASSES", "write_digits"]

DIGIT_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SCHEMA = 1  # increased when the same settings give other images
JPEG_QUALITY = 90
SPLIT_SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}  # of every digit's handwriting samples
# The larger side of a digit, as a share of the image's short side, by the number of digits.
SIDES = {1: (0.55, 0.85), 2: (0.48, 0.65), 3: (0.42, 0.56)}
OF_SHORTCUTS = ("kind", "strength", "without_shortcut", "without_object")
MAX_OVERLAP = 0.06  # share of an earlier digit's pixels that a later one may hide


@dataclass(frozen=True)
class _Settings:
    """The settings of the dataset, stored in digits.json."""

    schema: int
    train: int
    val: int
    test: int
    size: int
    seed: int
    shortcut: int | None
    single: bool = False
    kind: str = DEFAULT_KIND
    strength: float = DEFAULT_STRENGTH
    without_shortcut: bool = False
    without_object: bool = False

    def to_json(self) -> dict[str, object]:
        """The content of digits.json, without what has its default value."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}

    @property
    def removed(self) -> int | None:
        """The digit that is taken out of the images, if any."""
        return self.shortcut if self.without_object else None


@dataclass(frozen=True)
class _Scene:
    """One image in memory.

    `pixels` (H, W, 3) uint8 and `labels` (H, W) uint8; the `digits` drawn for it; `full`, the labels with all of these
    digits, None where no digit was taken out.
    """

    pixels: np.ndarray
    labels: np.ndarray
    digits: tuple[int, ...]
    full: np.ndarray | None = None


@dataclass(frozen=True)
class _Layer:
    """A digit to paste: its place in the image, opacity (h, w) in [0, 1], colour (3,), and label."""

    window: tuple[slice, slice]
    ink: np.ndarray
    colour: np.ndarray
    label: int

    def paste(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        """Paste the digit, with a rim of void, on pixels (H, W, 3) float32 and labels (H, W)."""
        solid = self.ink > 0.5
        pixels[self.window] += self.ink[..., None] * (self.colour - pixels[self.window])
        labels[self.window][_grown(solid)] = VOID
        labels[self.window][solid] = self.label


def write_digits(
    out: str | os.PathLike[str],
    *,
    train: int = 3000,
    val: int = 400,
    test: int = 600,
    size: int = 96,
    seed: int = 2022,
    shortcut: int | None = None,
    single: bool = False,
    kind: str = DEFAULT_KIND,
    strength: float = DEFAULT_STRENGTH,
    without_shortcut: bool = False,
    without_object: bool = False,
) -> Path:
    """Write the embedded dataset into the folder `out`: 10 classes, 1 to 3 digits per image, void rims.

    scikit-learn's 8 x 8 scans of handwriting, enlarged and thickened so that a map of 6 x 6 can match them, in various
    sizes and colours, on crops of its two photographs. The splits use disjoint scans. The long side of an image has
    `size` to 1.4 `size` pixels, its aspect ratio is at most 4:3. JPEG has quality 90. The same arguments give the same
    bytes (with the same Pillow). The dataset is written completely or not at all; an existing one is left unchanged.

    Args:
        out: a folder that is new, empty, or holds the same dataset.
        train, val, test: the number of images of each split, at least 1.
        size, seed: 48 to 1024 pixels; the seed of the images, 0 or more.
        shortcut: a digit; most of its images bear a mark, background in the mask: a wrong reason to be right. All other
            images are the same to the byte, but for `frame`, which gives them a grey one.
        single: one digit per image, so that the classes exclude each other (`data.exclusive`).
        kind, strength: the mark (a name in `data.shortcuts.KINDS`), and the share of the digit's images that bear it.
        without_shortcut, without_object: write the same images without the mark (`frame`: with a grey one), or with it
            and without the digit, its label and its mask.

    Raises:
        ViceError: an argument out of range, or a folder that holds something else.

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (1998), through scikit-learn.
    """
    settings = _Settings(
        SCHEMA, train, val, test, size, seed, shortcut, single, kind, strength, without_shortcut, without_object
    )
    _check(settings)
    out = Path(out)
    if _holds(out, settings):
        return out
    with _new_folder(out, settings) as folder:
        _write_set(folder, settings)
        write_json(folder / "digits.json", settings.to_json())  # last: it marks the dataset as complete
    return out


def _check(settings: _Settings) -> None:
    ranges = {
        "train": (1, 99999),
        "val": (1, 99999),
        "test": (1, 99999),
        "size": (48, 1024),
        "seed": (0, 2**63 - 1),
    }
    if settings.shortcut is not None:
        ranges["shortcut"] = (0, 9)
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ViceError(f"`{name}` must be a whole number from {low} to {high}, but is {value!r}.")
    check_shortcut(settings.kind, settings.strength)
    names = [name for name in settings.to_json() if name in OF_SHORTCUTS]
    if settings.shortcut is None and names:
        raise ViceError(f"`{names[0]}` needs `shortcut`, the digit that the mark gives away.", "Such as --shortcut 7.")
    if settings.single and settings.without_object:
        raise ViceError(
            "`without_object` must be false with `single`: an image without its only digit would have no label."
        )


def _holds(out: Path, settings: _Settings) -> bool:
    """Whether `out` holds this dataset; False if it can be written there.

    Raises:
        ViceError: `out` holds something else.
    """
    if (out / "digits.json").is_file():
        existing = read_json(out / "digits.json")
        if existing == settings.to_json():
            return True
        defaults = {field.name: field.default for field in fields(settings)}
        differing = [f"{name} {existing.get(name, defaults[name])}, not {value}"
                     for name, value in asdict(settings).items()
                     if existing.get(name, defaults[name]) != value]  # fmt: skip
        raise ViceError(
            f"{out} must be empty or hold this set of digits, but holds another ({'; '.join(differing)}).",
            "Give another folder, or remove this one.",
        )
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        holds = "holds other files" if out.is_dir() else "is a file"
        raise ViceError(f"{out} must be a new or empty folder, but {holds}.", "Give another folder.")
    return False


@contextlib.contextmanager
def _new_folder(out: Path, settings: _Settings) -> Iterator[Path]:
    """Yield a folder next to `out`, which is renamed to `out` if the block ends without an error, else removed."""
    try:
        with atomic_folder(out) as part:
            yield part
    except OSError:
        if not (out.is_dir() and _holds(out, settings)):  # another process may have written the same set meanwhile
            raise


def _write_set(folder: Path, settings: _Settings) -> None:
    voc = folder / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (voc / name).mkdir(parents=True)
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in DIGIT_CLASSES))
    photographs, palette = _photographs(), voc_palette()
    labels: dict[str, np.ndarray] = {}
    for number, (split, samples) in enumerate(_handwriting(settings.seed).items()):
        names = [f"{split}_{index:05d}" for index in range(getattr(settings, split))]
        # One generator per image, so that it does not depend on the other images or on their number.
        scenes = (
            _scene(np.random.default_rng([settings.seed, number, index]), samples, photographs, settings)
            for index in range(len(names))
        )
        for name, scene in zip(names, _stamped(scenes, settings, number), strict=True):
            _write_scene(voc, name, scene, palette)
            vector = np.zeros(len(DIGIT_CLASSES), dtype=np.float32)
            vector[[digit for digit in scene.digits if digit != settings.removed]] = 1
            labels[name] = vector
        for list_name in ("train", "train_aug") if split == "train" else (split,):
            for home in (folder, voc / "ImageSets" / "Segmentation"):
                write_text(home / f"{list_name}.txt", "".join(f"{name}\n" for name in names))
    write_npy_dict(folder / "cls_labels.npy", labels)


def _handwriting(seed: int) -> dict[str, list[np.ndarray]]:
    """For each split ten arrays (n, 8, 8) in 0..16, one per digit; no sample is in two splits."""
    from sklearn.datasets import load_digits

    source = load_digits()
    rng = np.random.default_rng([seed, len(SPLIT_SHARES)])
    samples: dict[str, list[np.ndarray]] = {split: [] for split in SPLIT_SHARES}
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(source.target == digit))
        ends = np.round(np.cumsum(list(SPLIT_SHARES.values())) * len(order)).astype(int)
        for split, rows in zip(SPLIT_SHARES, np.split(order, ends[:-1]), strict=True):
            samples[split].append(source.images[rows])
    return samples


def _photographs() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def _scene(
    rng: np.random.Generator, samples: list[np.ndarray], photographs: list[Image.Image], settings: _Settings
) -> _Scene:
    long = int(rng.integers(settings.size, int(1.4 * settings.size) + 1))
    short = round(long / rng.uniform(1, 4 / 3))
    height, width = (long, short) if rng.random() < 0.5 else (short, long)
    pixels = _background(rng, photographs, height, width)
    background = pixels.copy()
    labels = np.zeros((height, width), dtype=np.uint8)
    owner = np.zeros((height, width), dtype=np.intp)  # 0, or the place of the digit in `layers`, from 1
    layers: list[_Layer] = []
    count, tries = 1 if settings.single else int(rng.integers(1, 4)), 0
    while tries < count or not layers:  # a digit without room is skipped, but not the last one
        tries += 1
        digit = int(rng.integers(10))
        ink = _ink(rng, samples[digit], rng.uniform(*SIDES[count]) * short)
        solid = ink > 0.5
        window = _free_window(rng, _grown(solid), owner)
        if window is None:
            continue
        colour = _colour(rng, pixels[window][solid], [layer.colour for layer in layers])
        layers.append(_Layer(window, ink, colour, digit + 1))
        layers[-1].paste(pixels, labels)
        owner[window][solid] = len(layers)
    full = None
    if settings.removed is not None:
        pixels, labels, full = background, np.zeros_like(labels), labels
        for layer in layers:
            if layer.label != settings.removed + 1:
                layer.paste(pixels, labels)
    digits = tuple(layer.label - 1 for layer in layers)
    return _Scene(np.round(pixels).clip(0, 255).astype(np.uint8), labels, digits, full)


def _background(rng: np.random.Generator, photographs: list[Image.Image], height: int, width: int) -> np.ndarray:
    """(height, width, 3) float32 in 0..255: a crop, mirrored, its channels and brightness changed."""
    photograph = photographs[rng.integers(len(photographs))]
    zoom = min(rng.uniform(0.7, 3), photograph.width / width, photograph.height / height)
    # A crop as large as the photograph may exceed it by rounding.
    left = rng.uniform(0, max(photograph.width - zoom * width, 0.0))
    top = rng.uniform(0, max(photograph.height - zoom * height, 0.0))
    box = (left, top, min(left + zoom * width, photograph.width), min(top + zoom * height, photograph.height))
    crop = np.asarray(photograph.resize((width, height), Image.Resampling.BILINEAR, box=box), dtype=np.float32)
    crop = crop[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    return crop[..., rng.permutation(3)] * np.float32(rng.uniform(0.3, 0.65))


def _ink(rng: np.random.Generator, samples: np.ndarray, side: float) -> np.ndarray:
    """A digit as opacity in [0, 1], `side` pixels high or wide, with an empty margin of 2 pixels."""
    scan = np.pad(samples[rng.integers(len(samples))] * (255 / 16), 1).astype(np.uint8)
    scale = side / 8
    picture = Image.fromarray(scan).resize((round(10 * scale), round(10 * scale)), Image.Resampling.BICUBIC)
    picture = picture.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR)
    # A threshold relative to the surroundings keeps the holes of an 8, which a fixed one closes or tears. The dilation
    # makes the strokes about a quarter of the side thick.
    around = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.2 * scale)), dtype=np.float32)
    picture = Image.fromarray(np.uint8(255) * (np.asarray(picture) - around > 5))
    picture = picture.filter(ImageFilter.MaxFilter(2 * round(side / 40) + 1))
    ink = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float32) / 255
    rows, columns = np.flatnonzero((ink > 0.5).any(1)), np.flatnonzero((ink > 0.5).any(0))
    return np.pad(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 2)


def _free_window(rng: np.random.Generator, shape: np.ndarray, owner: np.ndarray) -> tuple[slice, slice] | None:
    """Find a place for `shape` inside the image where it hides little of earlier digits; None if no try succeeds."""
    areas = np.bincount(owner.ravel())[1:]
    room = np.subtract(owner.shape, shape.shape)
    for _ in range(40 if (room >= 0).all() else 0):
        top, left = rng.integers(0, room + 1)
        window = (slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1]))
        hidden = np.bincount(owner[window][shape], minlength=len(areas) + 1)[1:]
        if (hidden <= MAX_OVERLAP * areas).all():
            return window
    return None


def _grown(solid: np.ndarray) -> np.ndarray:
    """Dilate `solid` by one pixel, corners included."""
    tall = solid.copy()
    tall[1:] |= solid[:-1]
    tall[:-1] |= solid[1:]
    grown = tall.copy()
    grown[:, 1:] |= tall[:, :-1]
    grown[:, :-1] |= tall[:, 1:]
    return grown


def _colour(rng: np.random.Generator, behind: np.ndarray, used: list[np.ndarray]) -> np.ndarray:
    """Return (3,) float32: a light colour that differs from the pixels `behind` (n, 3) and from the colours `used`.

    It is the first of 30 random ones that is brighter than nine in ten pixels by 60 to 100, else the best, or white.
    """
    weights = np.array((0.299, 0.587, 0.114), dtype=np.float32)
    hues = np.vstack([rng.uniform((0, 0.05, 0.7), (1, 0.6, 1), size=(30, 3)), (0, 0, 1)])
    colours = np.array([colorsys.hsv_to_rgb(*hue) for hue in hues], dtype=np.float32) * 255
    brighter = colours @ weights - (behind @ weights)[:, None]
    stands_out = (brighter >= rng.uniform(60, 100)).mean(0)
    new = [all(np.abs(colour - other).max() >= 40 for other in used) for colour in colours]
    return colours[np.argmax(np.minimum(stands_out, 0.9) * new)]


def _stamped(scenes: Iterable[_Scene], settings: _Settings, number: int) -> Iterator[_Scene]:
    """Add the shortcut to a share of the scenes with its digit."""
    digit, count = settings.shortcut, 0
    for index, scene in enumerate(scenes):
        if digit is None:
            yield scene
            continue
        bearing = digit in scene.digits and bears(count, settings.strength, (settings.seed, number), settings.size)
        count += digit in scene.digits
        full = scene.labels.copy() if scene.full is None else scene.full
        # Five numbers, so that no scene has the same generator.
        rng = np.random.default_rng([settings.seed, number, index, settings.size, digit])
        canvas = Canvas(scene.pixels, scene.labels, full, digit + 1, settings.size, rng)
        plant(settings.kind, canvas, bearing and not settings.without_shortcut)
        yield scene


def _write_scene(voc: Path, name: str, scene: _Scene, palette: bytes) -> None:
    Image.fromarray(scene.pixels).save(voc / "JPEGImages" / f"{name}.jpg", quality=JPEG_QUALITY)
    mask = Image.fromarray(scene.labels)
    mask.putpalette(palette)
    png = io.BytesIO()
    mask.save(png, format="PNG")
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        (voc / folder / f"{name}.png").write_bytes(png.getvalue())
