"""export: step 2 as files, for people who want the maps themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torchvice.errors import ViceError
from torchvice.files import read_json, write_json
from torchvice.interop import write_legacy_maps, write_maps

if TYPE_CHECKING:
    from torch import nn

    from torchvice.assessment import Dataset
    from torchvice.explain import Choices

__all__ = ["write_map_files"]


def write_map_files(
    model: nn.Module,
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    protocol: Literal["paper", "strict"] | str = "paper",
    file_format: Literal["npz", "legacy"] | str = "npz",
    method: str = "auto",
    layer: str | None = None,
    class_map: Sequence[Sequence[int]] | None = None,
    choices: Choices | None = None,
    view_size: int | None = None,
    crop: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_size: int = 32,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    passes: Callable[[int, int], None] | None = None,
) -> int:
    """Write the normalised maps of every image's true classes, at the image's size, one file an image.

    A file that is there already is kept, so that a stopped run goes on; `maps.json` beside the files says how they were
    made, and a folder of other settings is refused.

    Args:
        folder: made if absent; IMAGE_ID.npz or IMAGE_ID.npy appear in it.
        protocol: whose view and normalisation.
        file_format: "npz" (`keys`, `maps`; compressed float16) or "legacy" (the original's .npy dictionary of float32).
        model, dataset, method, layer, class_map, choices, view_size, crop, mean, std, batch_size, device: as for
            `torchvice.assess`.
        progress: called with (images done, images in all).
        passes: as for `torchvice.assess`.

    Returns:
        How many files were written.

    Raises:
        ViceError: as `torchvice.assess`; an unknown protocol or format; a folder of other maps.
    """
    from torchvice.assessment.views import views_of
    from torchvice.models.build import weights_hash

    if file_format not in ("npz", "legacy"):
        raise ViceError(f"`file_format` must be 'npz' or 'legacy', but is {file_format!r}.")
    how: dict[str, Any] = {"view_size": view_size, "crop": crop, "mean": mean, "std": std, "batch_size": batch_size}
    how |= {
        "method": method,
        "layer": layer,
        "class_map": class_map,
        "choices": choices,
        "device": device,
        "passes": passes,
    }
    view = views_of(model, [protocol], **how)[protocol]
    folder = Path(folder)
    _claim(folder, {"explanation": view.settings, "format": file_format, "weights_sha256": weights_hash(model)})
    suffix = ".npz" if file_format == "npz" else ".npy"
    paths = [folder / f"{record.image_id}{suffix}" for record in dataset.records]
    todo = [index for index, path in enumerate(paths) if not path.exists()]
    count = 0
    for start in range(0, len(todo), batch_size):
        part = todo[start : start + batch_size]
        images = [dataset.image(index) for index in part]
        for position, seen in view.look(images, dataset.targets[part]):
            height, width = images[position].shape[:2]
            maps = seen.full((height, width))
            (write_maps if file_format == "npz" else write_legacy_maps)(paths[part[position]], seen.classes, maps)
            count += 1
            if progress:
                progress(len(paths) - len(todo) + count, len(paths))
    return count


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write how the maps are made; refuse a folder whose maps are made otherwise."""
    note = folder / "maps.json"
    if note.is_file() and read_json(note, "The note on the maps") != settings:
        raise ViceError(
            f"Maps of one kind go into a folder, but {folder} holds others.",
            "Write to another folder, or delete that one.",
        )
    write_json(note, settings)
