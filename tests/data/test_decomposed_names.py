"""Names in Unicode's decomposed form, as macOS writes them: they are the same names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from bare_files import SIZE, drawn, write_grey, write_image

from torchvice.assessment.foreign_maps import ForeignMaps
from torchvice.assessment.scores import read_scores
from torchvice.data import FolderDataset, open_images
from torchvice.errors import ViceError
from ways_out import tried

COMPOSED = "caf\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
FORMS = [COMPOSED, DECOMPOSED]


def opened(root: Path, folder: str, classes: list[str] | None = None) -> FolderDataset:
    for seed, name in enumerate((folder, "bar", "zoo")):
        write_image(root / "photos" / name / "a.png", seed)
        write_grey(root / "masks" / name / "a.png", drawn())
    return open_images(root / "photos", root / "masks", classes=classes)


@pytest.mark.parametrize("folder", FORMS)
@pytest.mark.parametrize("given", FORMS)
def test_folders_of_classes(tmp_path: Path, folder: str, given: str) -> None:
    dataset = opened(tmp_path, folder)
    assert dataset.classes == ("bar", COMPOSED, "zoo")
    assert dataset.targets.tolist() == np.eye(3, dtype=int).tolist()
    np.testing.assert_array_equal(dataset.mask(1), drawn(2))
    ordered = opened(tmp_path, folder, [given, "zoo", "bar"])
    assert ordered.classes == (COMPOSED, "zoo", "bar")
    assert [record.image_id for record in ordered.records] == ["bar/a", f"{COMPOSED}/a", "zoo/a"]
    assert ordered.targets.argmax(1).tolist() == [2, 0, 1]


def test_two_folders_of_one_name_are_put_together(tmp_path: Path) -> None:
    write_image(tmp_path / "photos" / DECOMPOSED / "b.png")

    def right() -> FolderDataset:
        (tmp_path / "photos" / DECOMPOSED / "b.png").rename(tmp_path / "photos" / COMPOSED / "b.png")
        (tmp_path / "photos" / DECOMPOSED).rmdir()
        return open_images(tmp_path / "photos")

    says = "Move the images of one to the other."
    assert tried(lambda: opened(tmp_path, COMPOSED), says, right).targets.sum(0).tolist() == [1, 2, 1]


@pytest.mark.parametrize("folder", FORMS)
@pytest.mark.parametrize("held", FORMS)
def test_maps_in_folders_of_the_same_names(tmp_path: Path, folder: str, held: str) -> None:
    dataset = opened(tmp_path, folder)
    grey = np.linspace(0, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    for number, names in enumerate((("bar/a", f"{held}/a", "zoo/a"), ("bar/bar/a", f"{held}/{held}/a", "zoo/zoo/a"))):
        for name in names:
            path = tmp_path / f"maps{number}" / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, grey)
        maps = ForeignMaps(tmp_path / f"maps{number}", dataset)
        assert maps.by_class == bool(number)
        assert list(maps.read(1)) == [1]
        assert maps.unknown == ()


@pytest.mark.parametrize("held", FORMS)
@pytest.mark.parametrize("asked", FORMS)
def test_scores_of_images_and_classes(tmp_path: Path, held: str, asked: str) -> None:
    (tmp_path / "wide.csv").write_text(f"id,{held},dog\n{held}/1,1.5,-2\nb,0,3\n", encoding="utf-8")
    (tmp_path / "long.csv").write_text(
        f"id,class,logit\n{held}/1,{held},1.5\n{held}/1,dog,-2\nb,{held},0\nb,dog,3\n", encoding="utf-8"
    )
    for name in ("wide.csv", "long.csv"):
        scores = read_scores(tmp_path / name, [asked, "dog"])
        assert scores.of([f"{asked}/1"]).tolist() == [[1.5, -2]]
        assert scores.beyond([f"{asked}/1"]) == ["b"]


def test_an_image_has_one_row_in_whatever_form(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(f"id,cat,dog\n{COMPOSED},1,2\n{DECOMPOSED},3,4\n", encoding="utf-8")
    with pytest.raises(ViceError, match="must hold every image once"):
        read_scores(tmp_path / "s.csv", ["cat", "dog"])
