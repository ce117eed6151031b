"""dataset.yaml: the classes, mask values or colours, folders and lists of a dataset in its own layout."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchvice.data.finder import refuse_spelling
from torchvice.data.images import VOID, read_colours, read_mask, refuse_narrow_void
from torchvice.errors import ViceError, brief, did_you_mean
from torchvice.files import read_yaml
from torchvice.metrics.overlap import void_of

__all__ = ["FILE", "Description", "check_objects_only", "description_schema", "is_no_object", "read_description"]

FILE = "dataset.yaml"
NO_OBJECTS = {
    *("background", "bg", "bkg", "bgr", "bckg", "backgnd", "void", "ignore", "ignored", "unlabeled", "unlabelled"),
    *("backgroundclass", "ignoreregion", "ignorelabel", "voidclass", "noobject", "nolabel", "nothing", "none"),
    # In other languages: de, fr, es and it, pt, nl, sv and no, da, pl, cs, tr, fi, hu, ru, uk, zh, ja, ko.
    *("hintergrund", "fond", "arriereplan", "fondo", "sfondo", "fundo", "achtergrond", "bakgrund", "bakgrunn"),
    *("baggrund", "tło", "tlo", "pozadi", "arkaplan", "tausta", "фон", "тло", "背景", "배경"),
}
KEYS = ("names", "background", "void", "images", "masks", "boxes", "splits")
Code = int | tuple[int, int, int]  # a mask's value, or its colour


@dataclass(frozen=True)
class Description:
    """The content of dataset.yaml.

    Attributes:
        file: its path.
        names: (C,) classes, in the order of their labels.
        codes: the label of each value or colour that a mask may hold: 0, c + 1 or that of void.
        images, masks, boxes: folders next to it, or None.
        splits: the list of each split.
    """

    file: Path
    names: tuple[str, ...]
    codes: Mapping[Code, int]
    images: Path | None
    masks: Path | None
    boxes: Path | None
    splits: Mapping[str, Path]

    def read_mask(self, path: Path) -> np.ndarray:
        """Read a mask and translate its values or colours to labels, (H, W) uint8 (int32 for more than 254 classes).

        Raises:
            ViceError: see `torchvice.data.read_mask`; or a value or colour that is not in dataset.yaml.
        """
        coloured = isinstance(next(iter(self.codes)), tuple)
        pixels = read_colours(path) if coloured else read_mask(path)
        if self.codes.get(VOID) == VOID:  # a class, if there are so many
            refuse_narrow_void(pixels, len(self.names), f"The mask {path}")
        packed = pixels.astype(np.int64)
        if coloured:
            packed = _packed(packed[..., 0], packed[..., 1], packed[..., 2])
        known = {_packed(*code) if isinstance(code, tuple) else code: label for code, label in self.codes.items()}
        keys = np.array(sorted(known), dtype=np.int64)
        places = np.searchsorted(keys, packed).clip(max=len(keys) - 1)
        strange = packed[keys[places] != packed]
        if strange.size:
            first = int(strange[0])
            unknown = f"#{first:06x}" if coloured else str(first)
            what = "colours" if coloured else "values"
            raise ViceError(
                f"The mask {path} must hold the {what} that {self.file} names, but holds {unknown}.",
                "Add it as a class of its own, to `background` or to `void`.",
            )
        labels = np.array([known[key] for key in keys.tolist()], dtype=np.int32)[places]
        return labels.astype(np.uint8) if len(self.names) < VOID else labels


def _packed(red: Any, green: Any, blue: Any) -> Any:
    return (red << 16) + (green << 8) + blue


def read_description(root: Path) -> Description | None:
    """Read dataset.yaml in `root`; None without it.

    Raises:
        ViceError: not YAML, an unknown key, a value of a wrong type, or a missing folder or list.
    """
    file = root / FILE
    if not file.is_file():
        refuse_spelling(root, FILE, ("dataset.yml",))
        return None
    content = read_yaml(file, "The description of the dataset")
    if not isinstance(content, dict) or "names" not in content:
        raise ViceError(f"{file} has no `names`, which lists the classes.", f"Known keys: {', '.join(KEYS)}.")
    for key in content:
        if key not in KEYS:
            raise ViceError(f"{file} has the unknown key {brief(key)}.", did_you_mean(str(key), KEYS))
    names, codes = _codes(file, content)
    folders = {key: _folder(file, key, content.get(key)) for key in ("images", "masks", "boxes")}
    return Description(file, names, codes, splits=_splits(file, content.get("splits")), **folders)


def description_schema() -> dict[str, Any]:
    """The JSON Schema of dataset.yaml; that names are objects and codes differ is checked where it is read."""
    channel = {"type": "integer", "minimum": 0, "maximum": 255}
    value = {"type": "integer", "minimum": 0, "maximum": (1 << 16) - 1, "description": "a value of the masks"}
    colour = {"type": "array", "items": channel, "minItems": 3, "maxItems": 3, "description": "red, green, blue"}
    code = {"anyOf": [value, colour, {"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$", "description": "#rrggbb"}]}
    codes = {"anyOf": [code, {"type": "array", "items": code}, {"type": "null"}]}
    text = {"type": "string", "minLength": 1}
    lists = {"type": "array", "items": text, "minItems": 1, "uniqueItems": True}
    named = {"type": "object", "additionalProperties": code, "minProperties": 1, "propertyNames": {"minLength": 1}}
    folder = {"type": ["string", "null"], "description": "a folder, from that of dataset.yaml"}
    splits = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}
    return {
        "type": "object",
        "properties": {
            "names": {"anyOf": [lists, named], "description": "the classes, or each with its value or colour"},
            "background": codes | {"description": "values that are no class"},
            "void": codes | {"description": "values that are not counted"},
            **dict.fromkeys(("images", "masks", "boxes"), folder),
            "splits": splits | {"description": "the list of images of each split"},
        },
        "required": ["names"],
        "additionalProperties": False,
    }


def is_no_object(name: str) -> bool:
    """Whether a class name means the background or void, under any spelling.

    Example:
        >>> is_no_object("__Background__"), is_no_object("0: Hintergrund (bg)"), is_no_object("background dog")
        (True, False, False)
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return unicodedata.normalize("NFC", re.sub(r"^[\W\d_]+|[\W_]+|[\W\d_]+$", "", bare)) in NO_OBJECTS


def check_objects_only(names: Sequence[str], where: str, way_out: str) -> None:
    """Check that no class is the background or void under any spelling, such as `__ignore__` or `_background_`.

    Raises:
        ViceError: one is; the message begins with `where`.
    """
    for name in names:
        if is_no_object(name):
            raise ViceError(f"{where} objects only, but has {brief(name)}.", way_out)


def _codes(file: Path, content: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[Code, int]]:
    """Return the classes, and the label of each value or colour."""
    named = content["names"]
    names = tuple(named if isinstance(named, list | dict) else ())
    if not names or len(set(map(str, names))) < len(names) or not all(isinstance(n, str) and n for n in names):
        raise ViceError(
            f"`names` in {file} must be different class names, or class names with their values, "
            f"but is {brief(named)}.",
            "A name such as true or 7, which YAML reads as something else, needs quotation marks.",
        )
    check_objects_only(names, f"`names` in {file} must be", "Use the key `background` or `void`.")
    classes = list(named.items()) if isinstance(named, dict) else [(name, c + 1) for c, name in enumerate(names)]
    coloured = not isinstance(classes[0][1], int)
    given = [(f"names: {name}", code, c + 1) for c, (name, code) in enumerate(classes)]
    void = void_of(len(names))
    not_classes = {"background": 0, "void": void}
    given += [(key, code, label) for key, label in not_classes.items() for code in _several(content.get(key), coloured)]
    owners: dict[Code, str] = {}
    codes: dict[Code, int] = {}
    for where, value, label in given:
        code = _code(file, where, value)
        if isinstance(code, tuple) != coloured:
            raise ViceError(
                f"{file} must not mix values and colours, but `{where}` is {brief(value)}.",
                "Give each class a value, or each a colour such as [128, 0, 0].",
            )
        if codes.get(code, label) != label:
            raise ViceError(
                f"{file} must give {brief(value)} one meaning, but has it at `{owners[code]}` and `{where}`.",
                "Remove it from one of the two.",
            )
        owners[code], codes[code] = where, label
    # Defaults, unless the file sets them or a class uses the code.
    defaults: dict[str, Code | None] = {"background": (0, 0, 0) if coloured else 0, "void": None if coloured else void}
    for key, code_or_none in defaults.items():
        if key not in content and code_or_none is not None:
            codes.setdefault(code_or_none, not_classes[key])
    return names, codes


def _several(value: Any, coloured: bool) -> Sequence[Any]:
    """Return a list of values or colours from one or several; among colours [0, 64, 128] is one of them."""
    if not isinstance(value, list):
        return [] if value is None else [value]
    return [value] if coloured and _is_colour(value) else value


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int for part in value)


def _code(file: Path, where: str, value: Any) -> Code:
    if type(value) is int and 0 <= value < 1 << 16:
        return value
    if _is_colour(value) and all(0 <= part < 256 for part in value):
        return (value[0], value[1], value[2])
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        try:
            number = int(value[1:], 16)
        except ValueError:
            number = -1
        if number >= 0:
            return (number >> 16, number >> 8 & 255, number & 255)
    raise ViceError(
        f"`{where}` in {file} must be a mask's value (0 to 65535) or a colour, but is {brief(value)}.",
        'A colour is [red, green, blue], each 0 to 255, or "#rrggbb".',
    )


def _folder(file: Path, key: str, value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not (file.parent / value).is_dir():
        raise ViceError(
            f"`{key}` in {file} must be a folder next to it, but is {brief(value)}.",
            "Write its path from the folder of dataset.yaml.",
        )
    return file.parent / value


def _splits(file: Path, value: Any) -> dict[str, Path]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise ViceError(f"`splits` in {file} must map names of splits to files of lists, but is {brief(value)}.")
    for name, place in value.items():
        if not (file.parent / place).is_file():
            raise ViceError(
                f"The split `{name}` in {file} must be a file next to it, but {place} does not exist.",
                "Write its path from the folder of dataset.yaml.",
            )
    return {name: file.parent / place for name, place in value.items()}
