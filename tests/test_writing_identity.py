"""A failed write names the target, on a read-only file system too."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from torchvice.files.writing import atomic


def test_a_read_only_file_system_names_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    target = tmp_path / "table.json"
    with pytest.raises(OSError, match="Read-only") as caught, atomic(target) as part:
        raise OSError(errno.EROFS, "Read-only file system", str(part))
    assert caught.value.filename == str(target)
