"""A failed write names its target, and no id of an image leads out of a folder."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from torchvice.assessment.map_files import _path
from torchvice.errors import ViceError
from torchvice.files.writing import atomic


def test_a_read_only_file_system_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    target = tmp_path / "table.json"
    with pytest.raises(OSError, match="Read-only") as caught, atomic(target) as part:
        raise OSError(errno.EROFS, "Read-only file system", str(part))
    assert caught.value.filename == str(target)


@pytest.mark.parametrize("image_id", ["../a", "b/../../a", "/a"])
def test_maps_stay_in_their_folder(tmp_path: Path, image_id: str) -> None:
    with pytest.raises(ViceError, match="An image id must be a path inside the folder of the maps"):
        _path(tmp_path, image_id, ".npz")
    assert _path(tmp_path, "b/a", ".npz") == tmp_path / "b/a.npz"
