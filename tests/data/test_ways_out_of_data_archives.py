"""Archives, COCO's file and the embedded digits: what each refusal's way out says is done, and works."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from following import followed
from published import Server, picture, tarred

from command import status_of
from torchvice.data import open_dataset, read_mask
from torchvice.data.archives import Source, check_space, fetch, reading, unpack_tar
from torchvice.data.building import building
from torchvice.data.coco import coco_sources, write_coco
from torchvice.data.coco_schema import read_instances
from torchvice.data.digits import write_digits
from torchvice.data.shortcuts import check_shortcut
from torchvice.data.voc_aug import write_voc
from torchvice.errors import ViceError
from ways_out import tried

CONTENT = bytes(range(256)) * 8
SIZE = (8, 10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "a.tar").write_bytes(CONTENT)
    with Server(tmp_path / "published").running() as running:
        yield running


def source(server: Server | None, md5: str | None = None, name: str = "a.tar") -> Source:
    return Source(server and f"{server.address}/{name}", name, md5)


def own_md5() -> str:
    return hashlib.md5(CONTENT).hexdigest()


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


# archives.py: fetching


def test_an_archive_without_an_address_is_put_into_the_folder(tmp_path: Path) -> None:
    def right() -> Path:
        (tmp_path / "a.tar").write_bytes(CONTENT)
        return fetch(source(None), tmp_path)

    assert tried(lambda: fetch(source(None), tmp_path), "Put it there", right).read_bytes() == CONTENT


def test_an_archive_without_an_address_gets_one(server: Server, tmp_path: Path) -> None:
    name = "annotations_trainval2017.zip"
    (tmp_path / "published" / "a.tar").rename(tmp_path / "published" / name)
    folder = tmp_path / "archives"
    found = tried(
        lambda: fetch(coco_sources()["annotations"], folder),
        "give the address to download it from: --from URL",
        lambda: fetch(coco_sources(server.address)["annotations"], folder),
    )
    assert found.read_bytes() == CONTENT


def test_a_download_resumes_once_there_is_space(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(url: str, part: Path, progress: object) -> None:
        part.write_bytes(CONTENT[:500])
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "archives"
    monkeypatch.setattr("torchvice.data.archives._download", full)

    def right() -> Path:
        monkeypatch.undo()
        return fetch(source(server), folder)

    said = "Free some space and start again; the download resumes"
    assert tried(lambda: fetch(source(server), folder), said, right).read_bytes() == CONTENT
    assert ("GET", "a.tar", "bytes=500-") in server.asked


def test_a_download_that_broke_off_is_started_again(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "archives"
    server.cut = 700
    said = "Start again to resume the download"
    found = tried(lambda: fetch(source(server), folder), said, lambda: fetch(source(server), folder))
    assert found.read_bytes() == CONTENT
    assert ("GET", "a.tar", "bytes=700-") in server.asked


def test_an_archive_that_the_server_lacks_is_put_into_the_folder(server: Server, tmp_path: Path) -> None:
    lacking = source(server, name="b.tar")

    def right(folder: str) -> Path:
        (Path(folder) / "b.tar").write_bytes(CONTENT)
        return fetch(lacking, tmp_path / "archives")

    pattern = r"put the file into (.+) yourself"
    assert followed(lambda: fetch(lacking, tmp_path / "archives"), pattern, right).read_bytes() == CONTENT


def test_an_archive_of_another_checksum_is_removed_or_replaced(server: Server, tmp_path: Path) -> None:
    known, folder = source(server, own_md5()), tmp_path / "archives"
    folder.mkdir()

    def wrong() -> object:
        (folder / "a.tar").write_bytes(b"of another year")
        return fetch(known, folder)

    def removed() -> Path:
        (folder / "a.tar").unlink()
        return fetch(known, folder)

    def replaced() -> Path:
        shutil.copy(tmp_path / "published" / "a.tar", folder / "a.tar")
        return fetch(known, folder)

    assert tried(wrong, "Remove it to download it again", removed).read_bytes() == CONTENT
    assert tried(wrong, "or give the archive as published", replaced).read_bytes() == CONTENT


def test_a_download_of_another_checksum_is_repeated(server: Server, tmp_path: Path) -> None:
    known, folder, published = source(server, own_md5()), tmp_path / "archives", tmp_path / "published" / "a.tar"
    published.write_bytes(b"x" * 100)

    def right() -> Path:
        assert left(folder) == []
        published.write_bytes(CONTENT)
        return fetch(known, folder)

    said = "The download is removed. Start again to repeat it"
    assert tried(lambda: fetch(known, folder), said, right).read_bytes() == CONTENT


@pytest.mark.parametrize("said", ["Free some space", "or give a folder on another disk"])
def test_a_full_disk_gets_space_or_another_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    free = {tmp_path / "full": 1000, tmp_path / "other": 10**9}
    for folder in free:
        folder.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free[place]))

    def right() -> None:
        if said == "Free some space":
            free[tmp_path / "full"] = 10**7
            check_space([(tmp_path / "full", 10**6)])
        else:
            check_space([(tmp_path / "other", 10**6)])

    tried(lambda: check_space([(tmp_path / "full", 10**6)]), said, right)


# archives.py: unpacking


def unpacked(archive: Path, root: Path) -> list[str]:
    """What a folder holds after a tar was unpacked into it, completely or not at all."""
    with building(root, ["a.txt"]) as part:
        unpack_tar(archive, part)
    return left(root)


def with_member(file: Path, kind: bytes, size: int = 0) -> Path:
    member = tarfile.TarInfo("a.txt")
    member.type, member.size = kind, size
    file.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    return file


def long_name(file: Path) -> Path:
    return tarred(file, {"a.txt": b"a", "x" * 300: b"x"}, "w")


def truncated(file: Path) -> Path:
    tarred(file, {"a.txt": CONTENT}, "w")
    file.write_bytes(file.read_bytes()[:1024])
    return file


SPOILT: dict[str, Callable[[Path], Path]] = {
    "a name that no folder can hold": long_name,
    "truncated": truncated,
    "a path outside": lambda file: tarred(file, {"a.txt": b"a", "../evil.txt": b"x"}, "w"),
    "a link": lambda file: with_member(file, tarfile.SYMTYPE),
    "a claim of terabytes": lambda file: with_member(file, tarfile.REGTYPE, 1 << 42),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_an_archive_that_is_refused_is_copied_again_and_nothing_of_it_was_kept(tmp_path: Path, kind: str) -> None:
    archive, root = SPOILT[kind](tmp_path / "a.tar"), tmp_path / "root"

    def right() -> list[str]:
        assert left(root) == []
        return unpacked(tarred(archive, {"a.txt": CONTENT}, "w"), root)

    said = "Copy or download it again" if kind in list(SPOILT)[:2] else "Give the archive as published"
    assert tried(lambda: unpacked(archive, root), said, right) == ["a.txt"]
    assert not list(tmp_path.rglob("evil*"))


def test_bytes_that_are_no_archive_are_told_in_one_line(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(ViceError) as caught:
        unpacked(archive, tmp_path / "root")
    assert (
        caught.value.message == f"The archive {archive} is truncated or damaged: file could not be opened successfully."
    )


@pytest.mark.parametrize("place", ["root", "archives", "archives/below"])
@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_a_file_in_the_place_of_a_folder_is_refused_before_a_download(
    tmp_path: Path, place: str, write: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvice.data.archives.still_to_fetch", lambda *_: pytest.fail("the server was asked"))
    monkeypatch.setattr("torchvice.data.coco._tools", lambda: None)
    (tmp_path / "file").write_text("text")
    given = {"root": tmp_path / "root", "archives": tmp_path / "archives"}
    given[place.partition("/")[0]] = tmp_path / "file" / place.partition("/")[2]
    with pytest.raises(ViceError, match=r"must lie in folders, but .*file is a file") as caught:
        write(**given)
    assert "--archives DIR" in caught.value.way_out


def test_archives_on_this_machine_are_given_by_their_folder(tmp_path: Path, coco: Path) -> None:
    pytest.importorskip("pycocotools", reason="the extra `coco` is not installed")
    found = tried(
        lambda: write_coco(tmp_path / "a", address=str(coco)),
        "--archives DIR",
        lambda: write_coco(tmp_path / "a", coco),
    )
    assert found.images == {"train": 1, "val": 1}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """The archives of COCO, of one image for train and one for val."""
    folder = tmp_path / "archives"
    folder.mkdir()
    members = {}
    for place, split in enumerate(("train", "val")):
        image = {"id": place, "file_name": f"{place}.jpg", "height": SIZE[0], "width": SIZE[1]}
        content = {"images": [image], "annotations": [annotation(image_id=place)], "categories": CATEGORIES}
        members[f"annotations/instances_{split}2017.json"] = json.dumps(content).encode()
        zipped(folder / f"{split}2017.zip", {f"{split}2017/{place}.jpg": picture(SIZE)})
    zipped(folder / "annotations_trainval2017.zip", members)
    return folder


CATEGORIES = [{"id": 3, "name": "cat"}]
SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def annotation(**more: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 1, "category_id": 3, "segmentation": SQUARE, "iscrowd": 0} | more


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file


def marked(file: Path, local: int, central: int, value: bytes) -> None:
    """Write a value into the header of the only member, and into its entry in the table at the end."""
    content = bytearray(file.read_bytes())
    for mark, at in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        place = content.find(mark) + at
        content[place : place + 2] = value
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("kind", ["password", "method"])
def test_an_archive_that_python_cannot_unpack_is_packed_again(tmp_path: Path, coco: Path, kind: str) -> None:
    pytest.importorskip("pycocotools")
    archive = coco / "val2017.zip"
    with zipfile.ZipFile(archive) as opened:
        held = {name: opened.read(name) for name in opened.namelist()}
    if kind == "password":
        marked(archive, 6, 8, b"\x01\x00")
    else:
        marked(archive, 8, 10, b"\x63\x00")
    said = {
        "password": "Unpack it, and pack it again without one",
        "method": "Unpack it with the program that made it, and pack it again",
    }

    def right() -> Any:
        zipped(archive, held)
        return write_coco(tmp_path / "coco", coco, splits=["val"])

    assert tried(lambda: write_coco(tmp_path / "coco", coco, splits=["val"]), said[kind], right).images == {"val": 1}


def test_a_dataset_is_built_once_there_is_space(tmp_path: Path) -> None:
    def build(full: bool) -> list[str]:
        with building(tmp_path / "root", ["a.txt"]) as part:
            (part / "a.txt").write_text("a")
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
        return left(tmp_path / "root")

    assert tried(lambda: build(True), "Free some space", lambda: build(False)) == ["a.txt"]


@pytest.mark.parametrize("said", ["Give another folder", "or remove them"])
def test_a_folder_that_holds_the_names_is_replaced_or_emptied(tmp_path: Path, said: str) -> None:
    archive = tarred(tmp_path / "a.tar", {"a.txt": CONTENT}, "w")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("mine")

    def right() -> list[str]:
        if "another" in said:
            return unpacked(archive, tmp_path / "other")
        (tmp_path / "root" / "a.txt").unlink()
        return unpacked(archive, tmp_path / "root")

    assert tried(lambda: unpacked(archive, tmp_path / "root"), said, right) == ["a.txt"]


def test_another_build_is_waited_for(tmp_path: Path) -> None:
    archive, root = tarred(tmp_path / "a.tar", {"a.txt": CONTENT}, "w"), tmp_path / "root"
    other = building(root, ["b.txt"])
    (other.__enter__() / "b.txt").write_text("b")

    def right() -> list[str]:
        other.__exit__(None, None, None)
        return unpacked(archive, root)

    assert tried(lambda: unpacked(archive, root), "Wait until it has finished", right) == ["a.txt", "b.txt"]


# coco.py


def test_a_split_of_coco_that_was_meant_is_given(tmp_path: Path, coco: Path) -> None:
    pytest.importorskip("pycocotools")
    written = followed(
        lambda: write_coco(tmp_path / "coco", coco, splits=["vall"]),
        "Did you mean `(.+?)`",
        lambda split: write_coco(tmp_path / "coco", coco, splits=[split]),
    )
    assert written.images == {"val": 1}


@pytest.mark.parametrize("said", ["Give another folder", "or remove this one"])
def test_other_splits_of_coco_get_another_folder(tmp_path: Path, coco: Path, said: str) -> None:
    pytest.importorskip("pycocotools")
    root = tmp_path / "coco"
    write_coco(root, coco, splits=["train"])

    def right() -> Any:
        if "another" in said:
            return write_coco(tmp_path / "other", coco, splits=["val"])
        shutil.rmtree(root)
        return write_coco(root, coco, splits=["val"])

    assert tried(lambda: write_coco(root, coco, splits=["val"]), said, right).images == {"val": 1}


def test_pycocotools_is_installed(tmp_path: Path, coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pycocotools")
    monkeypatch.setitem(sys.modules, "pycocotools", None)

    def right(extra: str) -> Any:
        from importlib.metadata import requires

        installed = [line for line in requires("torchvice") or () if f'extra == "{extra}"' in line]
        assert any(line.startswith("pycocotools") for line in installed)
        monkeypatch.undo()
        return write_coco(tmp_path / "coco", coco)

    pattern = r"pip install 'torchvice\[(\w+)\]'"
    assert followed(lambda: write_coco(tmp_path / "coco", coco), pattern, right).crowds == 0


# coco_schema.py


def content(**more: Any) -> dict[str, Any]:
    images = [{"id": 1, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}]
    return {"images": images, "annotations": [annotation()], "categories": CATEGORIES, **more}


def read(held: Any) -> dict[str, Any]:
    return read_instances(io.BytesIO(held if isinstance(held, bytes) else json.dumps(held).encode()), "a.json")


def test_a_file_that_was_cut_off_is_exported_again() -> None:
    whole = json.dumps(content()).encode()
    assert tried(lambda: read(whole[:-9]), "Export it again", lambda: read(whole))["categories"] == CATEGORIES


@pytest.mark.parametrize("held", [[], {name: value for name, value in content().items() if name != "annotations"}])
def test_a_file_of_another_form_is_replaced_by_one_like_cocos(held: Any) -> None:
    like = {"info": {}, "licenses": [], **content()}
    found = tried(lambda: read(held), "Give a file like COCO's instances_val2017.json", lambda: read(like))
    assert len(found["annotations"]) == 1


def test_corners_that_are_shares_are_multiplied_by_the_sides() -> None:
    height, width = SIZE
    shares = [[x / width, y / height] for x, y in ((1, 1), (5, 1), (5, 5), (1, 5))]

    def right(first: str, by_width: str, second: str, by_height: str) -> dict[str, Any]:
        assert (first, by_width, second, by_height) == ("x", "width", "y", "height")
        polygon = [value for x, y in shares for value in (x * width, y * height)]
        return read(content(annotations=[annotation(segmentation=[polygon])]))

    found = followed(
        lambda: read(content(annotations=[annotation(segmentation=[[value for pair in shares for value in pair]])])),
        r"Multiply (\w) by the (\w+) of the image, and (\w) by its (\w+)",
        right,
    )
    np.testing.assert_allclose(found["annotations"][0]["segmentation"], SQUARE)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("polygons, [[x, y, x, y, x, y, ...], ...] in pixels", SQUARE),
        ("or an RLE", {"size": list(SIZE), "counts": [8, 4, 68]}),
        ("A box may be drawn as the polygon of its four corners", [[1, 1, 4, 1, 4, 6, 1, 6]]),
    ],
)
def test_an_object_gets_polygons_or_rle(said: str, right: Any) -> None:
    found = tried(
        lambda: read(content(annotations=[annotation(segmentation=[[1, 1, 4, 6]])])),
        said,
        lambda: read(content(annotations=[annotation(segmentation=right)])),
    )
    assert len(found["annotations"]) == 1


@pytest.mark.parametrize("name", ["id", "image_id", "category_id"])
def test_ids_are_integers_without_quotation_marks(name: str) -> None:
    value = annotation()[name]
    found = tried(
        lambda: read(content(annotations=[annotation(**{name: str(value)})])),
        "Ids must be integers, without quotation marks",
        lambda: read(content(annotations=[annotation(**{name: value})])),
    )
    assert found["annotations"][0][name] == value


def test_categories_that_are_not_measured_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvice.data.coco_schema.MOST_CLASSES", 20)  # 65535 names take seconds
    many = [{"id": place, "name": f"c{place}"} for place in range(21)]
    found = tried(
        lambda: read(content(categories=many)),
        "keep the categories that you measure, and remove the others",
        lambda: read(content(categories=many[:10])),
    )
    assert len(found["categories"]) == 10


def test_a_file_without_categories_gets_them() -> None:
    found = followed(
        lambda: read(content(categories=[])),
        "^(?!.*remove).*`(categories)`",
        lambda name: read(content(**{name: CATEGORIES})),
    )
    assert found["categories"] == CATEGORIES


# digits.py, shortcuts.py

FEW = {"train": 1, "val": 1, "test": 1, "size": 48}


def test_a_mark_gets_the_digit_that_it_gives_away(tmp_path: Path) -> None:
    given = followed(
        lambda: write_digits(tmp_path / "digits", **FEW, without_shortcut=True),
        r"Such as --(\w+) (\d)\.",
        lambda name, digit: write_digits(tmp_path / "digits", **FEW, without_shortcut=True, **{name: int(digit)}),
    )
    assert len(open_dataset(given, "test")) == 1
    options = [word for name, value in FEW.items() for word in (f"--{name}", value)]
    arguments = ("data", "digits", "--out", tmp_path / "digits", *options, "--without-shortcut")
    assert status_of(*arguments) != 0
    assert status_of(*arguments, "--shortcut", 7) == 0


@pytest.mark.parametrize("said", ["Give another folder", "or remove this one"])
def test_other_digits_get_another_folder(tmp_path: Path, said: str) -> None:
    folder = write_digits(tmp_path / "digits", **FEW)
    assert read_mask(next((folder / "VOC2012/SegmentationClass").iterdir())).ndim == 2

    def right() -> Path:
        if "another" in said:
            return write_digits(tmp_path / "other", **FEW, seed=7)
        shutil.rmtree(folder)
        return write_digits(folder, **FEW, seed=7)

    given = tried(lambda: write_digits(folder, **FEW, seed=7), said, right)
    assert json.loads((given / "digits.json").read_text())["seed"] == 7


@pytest.mark.parametrize("kind", ["a folder with files", "a file"])
def test_digits_get_a_folder_of_their_own(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "mine"
    if kind == "a file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "notes.txt").write_text("mine")
    given = tried(
        lambda: write_digits(place, **FEW), "Give another folder", lambda: write_digits(tmp_path / "digits", **FEW)
    )
    assert len(open_dataset(given, "train")) == 1


def test_a_kind_of_mark_that_was_meant_is_given() -> None:
    followed(lambda: check_shortcut("stripes", 0.95), "Did you mean `(.+?)`", lambda kind: check_shortcut(kind, 0.95))


# written.py


@pytest.mark.parametrize("said", ["Give another folder", "or remove this dataset and write it again"])
@pytest.mark.parametrize("text", ["{", '{"classes": 80, "images": {"val": 1}, "crowds": 0}'])
def test_a_dataset_that_was_edited_is_written_again(tmp_path: Path, coco: Path, text: str, said: str) -> None:
    pytest.importorskip("pycocotools")
    root = tmp_path / "coco"
    write_coco(root, coco, splits=["val"])
    (root / "coco.json").write_text(text)

    def right() -> Any:
        if "another" in said:
            return write_coco(tmp_path / "other", coco, splits=["val"])
        shutil.rmtree(root)
        return write_coco(root, coco, splits=["val"])

    assert tried(lambda: write_coco(root, coco, splits=["val"]), said, right).images == {"val": 1}


def test_an_archive_of_gzip_with_another_checksum_is_copied_again(tmp_path: Path) -> None:
    archive = tmp_path / "a.gz"
    whole = gzip.compress(CONTENT)

    def contents() -> bytes:
        with reading(archive), gzip.open(archive) as opened:
            return opened.read()

    def right() -> bytes:
        archive.write_bytes(whole)
        return contents()

    archive.write_bytes(whole[:-8] + bytes(4) + whole[-4:])
    assert tried(contents, "Copy or download it again", right) == CONTENT
