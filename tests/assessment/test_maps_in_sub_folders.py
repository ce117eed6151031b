"""Maps of images that lie in sub-folders: cat/1.npy for the image cat/1."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from torchvice import ViceError
from torchvice.assessment.foreign_maps import ForeignMaps
from torchvice.data import open_images


def test_images_in_sub_folders_have_their_maps_in_the_same_ones(tmp_path):
    for name in ("cat/1", "cat/2", "dog/1"):
        for folder, pixels in (("photos", np.full((8, 6, 3), 7, np.uint8)), ("masks", np.eye(8, 6, dtype=np.uint8))):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels * (255 if folder == "masks" else 1)).save(tmp_path / folder / f"{name}.png")
        (tmp_path / "maps" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "maps" / f"{name}.npy", np.full((8, 6), 1 + int(name[-1]), np.float32))
    data = open_images(tmp_path / "photos", tmp_path / "masks")
    np.save(tmp_path / "maps" / "cat" / "9.npy", np.ones((8, 6), np.float32))
    files = ForeignMaps(tmp_path / "maps", data)
    assert [(list(files.read(i)), files.read(i)[c].max()) for i, c in ((0, 0), (1, 0), (2, 1))] == [
        ([0], 2.0),
        ([0], 3.0),
        ([1], 2.0),
    ]
    assert files.unknown == ("cat/9.npy",)
    (tmp_path / "maps" / "cat" / "cat").mkdir()
    np.save(tmp_path / "maps" / "cat" / "cat" / "1.npy", np.ones((8, 6), np.float32))
    with pytest.raises(ViceError, match=r"holds both: .*maps/cat/1\.npy and .*maps/cat/cat/1\.npy"):
        ForeignMaps(tmp_path / "maps", data)
    for name in ("cat/1", "cat/2", "dog/1"):
        (tmp_path / "maps" / f"{name}.npy").unlink()
    with pytest.raises(ViceError, match=r"2 of 3 images have no maps .* such as `cat/2`; .*files such as cat/9\.npy"):
        ForeignMaps(tmp_path / "maps", data)
