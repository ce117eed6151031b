"""`vice explain`: the maps as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torchvice.commands.assess import Progress, _how

if TYPE_CHECKING:
    from torchvice.runs.subject import Subject

__all__ = ["explain_subject"]


def explain_subject(
    subject: Subject,
    folder: str | os.PathLike[str],
    *,
    protocol: str = "paper",
    file_format: str = "npz",
    method: str = "auto",
    layer: str | None = None,
    choices: Sequence[str] = (),
    device: str = "auto",
    progress: Progress | None = None,
    passes: Progress | None = None,
) -> int:
    """Step 2 as files: the true labels' maps of every image, one file an image; returns how many were written.

    See `torchvice.assessment.map_files.write_map_files`.
    """
    from torchvice.assessment.map_files import write_map_files

    return write_map_files(
        subject.model,
        subject.dataset,
        folder,
        protocol=protocol,
        file_format=file_format,
        progress=progress,
        passes=passes,
        **_how(subject, method, layer, choices, device),
    )
