"""The dataset that a folder of masks belongs to: what its masks' values mean, and its classes."""

from __future__ import annotations

import os
from pathlib import Path

from torchvice.data.description import FILE, Description
from torchvice.data.layout import Layout
from torchvice.data.open import open_layout
from torchvice.errors import ViceError
from torchvice.files import read_yaml

__all__ = ["description_of", "layout_of"]


def layout_of(masks: str | os.PathLike[str], known: bool) -> Layout | None:
    """The dataset that a folder of masks belongs to, as `open_dataset` reads it; None without the folder.

    It lies in the parent folder, or in the first folder further up that holds a dataset.yaml whose `masks` is this
    folder. The search ends at the first folder with a dataset.yaml or a classes.txt.

    Args:
        masks: the folder.
        known: whether the number of classes is known without the dataset.

    Raises:
        ViceError: as `open_layout`; or the search ends at a dataset.yaml whose `masks` is another folder, and the
            classes are not known.
    """
    home = Path(os.path.normpath(Path(masks).absolute())).parent
    if not home.is_dir():
        return None
    for folder in (home, *home.parents):
        listed, described = (folder / "classes.txt").is_file(), (folder / FILE).is_file()
        if folder != home and described:
            named = _named_masks(folder / FILE)
            if named is not None and named.resolve() == Path(masks).resolve():
                return open_layout(folder, lists=True)
            if named is not None and not (known or listed):
                raise ViceError(
                    f"The masks must be those of {folder / FILE}, whose `masks` is {named}, but are in {masks}.",
                    "Name that folder there, or give the number of classes (--classes): masks are then read as they "
                    "are, with label c + 1 for class c.",
                )
        if listed or described:
            break
    return open_layout(home, lists=True)


def _named_masks(file: Path) -> Path | None:
    """The folder that a dataset.yaml names as its masks, or None."""
    content = read_yaml(file, "The description of the dataset")
    named = content.get("masks") if isinstance(content, dict) else None
    return file.parent / named if isinstance(named, str) else None


def description_of(layout: Layout | None, masks: str | os.PathLike[str]) -> Description | None:
    """The dataset.yaml that says what the values of these masks mean, or None."""
    described = None if layout is None else layout.described
    if described is None or (described.masks and described.masks.resolve() != Path(masks).resolve()):
        return None
    return described
