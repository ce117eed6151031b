"""VOC 2012 with SBD's masks, from small archives of the published structure: given, served, and spoilt in every way."""

from __future__ import annotations

import errno
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from published import (
    SBD_TRAIN,
    SBD_VAL,
    VOC,
    VOC_TRAIN,
    VOC_VAL,
    Server,
    sbd_members,
    sources,
    tarred,
    voc_members,
    write_archives,
)
from typer.testing import CliRunner

from torchvice.cli.app import app
from torchvice.data import VocDataset, read_list, read_mask, survey
from torchvice.data.voc_aug import PUBLISHED, VocSet, voc_sources, write_voc
from torchvice.errors import ViceError

TAR, TGZ = "VOCtrainval_11-May-2012.tar", "benchmark.tgz"
TRAIN_AUG = [*VOC_TRAIN, "2008_000001", "2008_000002", "2008_000003"]


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    write_archives(tmp_path / "archives")
    return tmp_path / "archives"


@pytest.fixture
def server(archives: Path) -> Iterator[Server]:
    with Server(archives).running() as running:
        yield running


def left(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir()) if root.is_dir() else []


# ---- what is made


def test_the_layout_of_the_seed(archives: Path, tmp_path: Path) -> None:
    root = tmp_path / "voc12"
    made = write_voc(root, archives, sources=sources(archives))
    assert made == VocSet(train=2, val=2, train_aug=5, masks_of_sbd=3, verified=True)
    assert left(root) == ["VOC2012", "cls_labels.npy", "train.txt", "train_aug.txt", "val.txt", "voc.json"]
    assert read_list(root / "train.txt") == VOC_TRAIN
    assert read_list(root / "val.txt") == VOC_VAL
    assert read_list(root / "train_aug.txt") == TRAIN_AUG
    assert set(TRAIN_AUG) == (set(VOC_TRAIN) | set(SBD_TRAIN) | set(SBD_VAL)) - set(VOC_VAL)
    for split, count in (("train_aug", 5), ("val", 2), ("train", 2), ("trainval", 4)):
        data = VocDataset(root, split)
        assert (len(data), data.masks_missing, data.mask_source) == (count, 0, "SegmentationClassAug")
    assert not [problem for found in survey(root) for problem in found.broken]


def test_vocs_own_masks_win_and_sbds_are_as_drawn(archives: Path, tmp_path: Path) -> None:
    write_voc(tmp_path / "voc12", archives, sources=sources(archives))
    masks = tmp_path / "voc12/VOC2012/SegmentationClassAug"
    for label, name in enumerate(VOC, start=1):
        assert (read_mask(masks / f"{name}.png")[0] == label).all()
        assert read_mask(masks / f"{name}.png")[1, 0] == 255
    drawn = read_mask(masks / "2008_000002.png")
    assert drawn.shape == (3, 7)
    assert (drawn[-1] == 7).all()
    assert not drawn[:-1].any()


def test_the_labels_are_those_of_the_annotations_as_the_original_reads_them(archives: Path, tmp_path: Path) -> None:
    write_voc(tmp_path / "voc12", archives, sources=sources(archives))
    labels = np.load(tmp_path / "voc12/cls_labels.npy", allow_pickle=True).item()
    assert set(labels) == {*TRAIN_AUG, *VOC_VAL}
    assert all(vector.shape == (20,) and vector.dtype == np.float32 for vector in labels.values())
    assert np.flatnonzero(labels[VOC_TRAIN[0]]).tolist() == [0]
    assert np.flatnonzero(labels["2008_000001"]).tolist() == [1, 2]  # the second is marked difficult
    assert VocDataset(tmp_path / "voc12", "train_aug").label_source == "cls_labels.npy"


def test_without_an_annotation_the_mask_gives_the_labels_and_sbd_an_image(archives: Path, tmp_path: Path) -> None:
    members = voc_members()
    for gone in ("Annotations/2008_000002.xml", "JPEGImages/2008_000002.jpg"):
        del members[f"VOCdevkit/VOC2012/{gone}"]
    tarred(archives / TAR, members, "w")
    write_voc(tmp_path / "voc12", archives, sources=sources(archives))
    labels = np.load(tmp_path / "voc12/cls_labels.npy", allow_pickle=True).item()
    assert np.flatnonzero(labels["2008_000002"]).tolist() == [6]  # the mask's label 7
    assert VocDataset(tmp_path / "voc12", "train_aug").image(3).shape == (3, 7, 3)


def test_the_published_archives_are_torchvisions() -> None:
    from torchvision.datasets import SBDataset

    known = voc_sources()
    assert known["voc"].filename == TAR
    assert (known["sbd"].url, known["sbd"].md5) == (SBDataset.url, SBDataset.md5)
    assert all(source.md5 and len(source.md5) == 32 for source in known.values())
    assert PUBLISHED["train_aug"] == 1464 + 6820 + 2298


def test_the_command_takes_archives(archives: Path, tmp_path: Path) -> None:
    command = ["data", "voc", "--out", str(tmp_path / "voc12"), "--archives", str(archives)]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, ViceError)
    assert f"{TAR} must have the MD5 {voc_sources()['voc'].md5}" in done.exception.message
    assert left(tmp_path / "voc12") == []
    done = CliRunner().invoke(app, [*command, "--unverified"])
    assert done.exit_code == 0, done.output
    assert "5 images in train_aug, 2 in train, 2 in val; 3 masks from SBD" in done.output.replace("\n", " ")
    assert "The published lists have other lengths" in done.output
    assert left(archives) == [TAR, TGZ]


# ---- fetching


def test_from_nothing_and_once_only(server: Server, archives: Path, tmp_path: Path) -> None:
    root, known = tmp_path / "voc12", sources(archives, server.address)
    steps: list[tuple[int, int]] = []
    made = write_voc(root, sources=known, progress=lambda done, total: steps.append((done, total)))
    assert made.train_aug == 5
    assert steps
    assert left(root / "archives") == [TAR, TGZ]
    assert [asked[:2] for asked in server.asked] == [("HEAD", TAR), ("HEAD", TGZ), ("GET", TAR), ("GET", TGZ)]
    assert write_voc(root, sources=known) == made  # it is there: nothing is asked
    (root / "voc.json").write_text((root / "voc.json").read_text().replace('"train_aug": 5', '"train_aug": 10582'))
    with pytest.raises(ViceError, match=r"train_aug\.txt must have 10582 lines, as voc\.json counts, but has 5"):
        write_voc(root, sources=known)
    (root / "voc.json").unlink()
    shutil.rmtree(root / "VOC2012")
    for file in root.glob("*.*"):
        file.unlink()
    assert write_voc(root, sources=known) == made  # from the archives that were fetched
    assert len(server.asked) == 4


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off(server: Server, archives: Path, tmp_path: Path, ranges: bool) -> None:
    root, known = tmp_path / "voc12", sources(archives, server.address)
    server.ranges, server.cut = ranges, 5000
    with pytest.raises(ViceError, match=r"was lost after 5000 of|IncompleteRead") as caught:
        write_voc(root, sources=known)
    assert "Start again to resume the download" in caught.value.way_out
    assert left(root / "archives") == [f".{TAR}.part"]
    assert (root / "archives" / f".{TAR}.part").stat().st_size == 5000
    assert write_voc(root, sources=known).train_aug == 5
    assert ("GET", TAR, "bytes=5000-") in server.asked
    assert left(root / "archives") == [TAR, TGZ]


def test_a_beginning_of_another_file_is_found_out(server: Server, archives: Path, tmp_path: Path) -> None:
    root, known = tmp_path / "voc12", sources(archives, server.address)
    (root / "archives").mkdir(parents=True)
    (root / "archives" / f".{TAR}.part").write_bytes(b"x" * 700)
    with pytest.raises(ViceError, match=rf"{TAR} must have the MD5 \w+, but .* has \w+") as caught:
        write_voc(root, sources=known)
    assert "Start again" in caught.value.way_out
    assert left(root) == ["archives"]
    assert left(root / "archives") == []
    (root / "archives" / f".{TAR}.part").write_bytes(b"x" * 10**6)  # longer than the file: the server says 416
    assert write_voc(root, sources=known).train_aug == 5


def test_what_had_come_in_full_is_not_fetched_again(server: Server, archives: Path, tmp_path: Path) -> None:
    (tmp_path / "voc12/archives").mkdir(parents=True)
    shutil.copy(archives / TAR, tmp_path / "voc12/archives" / f".{TAR}.part")  # killed before it got its name
    assert write_voc(tmp_path / "voc12", sources=sources(archives, server.address)).train_aug == 5
    assert [asked[2] for asked in server.asked if asked[:2] == ("GET", TAR)] == [
        f"bytes={(archives / TAR).stat().st_size}-"
    ]


def test_no_answer(server: Server, archives: Path, tmp_path: Path) -> None:
    known = sources(archives, server.address)
    (archives / TGZ).rename(archives / "other.tgz")
    with pytest.raises(ViceError, match=rf"{TGZ} cannot be downloaded from {server.address}/{TGZ}: .*404"):
        write_voc(tmp_path / "voc12", sources=known)
    with pytest.raises(ViceError, match=r"is not in .*, and its address is unknown"):
        write_voc(tmp_path / "voc12", tmp_path / "none", sources=sources_without_address(known))
    assert left(tmp_path / "voc12") == []


def sources_without_address(known):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return {name: replace(source, url=None) for name, source in known.items()}


def test_too_little_room(server: Server, archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = sources(archives, server.address)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ViceError, match=r"must have .* GB free, but has 0\.0 GB"):
        write_voc(tmp_path / "voc12", sources=known)
    assert left(tmp_path / "voc12") == []
    assert {asked[0] for asked in server.asked} == {"HEAD"}  # before a byte is fetched


# ---- archives that are wrong


def spoilt(archives: Path, kind: str) -> None:
    tar, tgz = archives / TAR, archives / TGZ
    voc, sbd = voc_members(), sbd_members()
    cls = "benchmark_RELEASE/dataset/cls/2008_000001.mat"
    if kind == "truncated tar":
        tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    elif kind == "truncated tgz":
        tgz.write_bytes(tgz.read_bytes()[: tgz.stat().st_size // 2])
    elif kind == "no tgz":
        tgz.write_bytes(b"<html>not found</html>")
    elif kind == "a path outside":
        tarred(tar, {"../evil.txt": b"x", **voc}, "w")
    elif kind == "a path outside in SBD":
        tarred(tgz, {"benchmark_RELEASE/dataset/cls/../../../evil.mat": b"x", **sbd}, "w:gz")
    elif kind in ("a link", "a hard link", "a device"):
        with tarfile.open(tar, "w") as opened:
            member = tarfile.TarInfo("VOCdevkit/VOC2012/SegmentationClassAug")
            member.type = {"a link": tarfile.SYMTYPE, "a hard link": tarfile.LNKTYPE, "a device": tarfile.FIFOTYPE}[
                kind
            ]
            member.linkname = "JPEGImages" if kind == "a link" else "VOCdevkit/VOC2012/JPEGImages/2008_000001.jpg"
            opened.addfile(member)
            for name, content in voc.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                opened.addfile(member, io.BytesIO(content))
    elif kind == "a claim of terabytes":
        header = tarfile.TarInfo("VOCdevkit/VOC2012/JPEGImages/2008_000001.jpg")
        header.size = 1 << 42
        tar.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    elif kind == "a long name":
        tarred(tar, {f"VOCdevkit/{'x' * 300}.txt": b"x", **voc}, "w")
    elif kind == "a file for a folder":
        tarred(tar, {"VOCdevkit": b"x", **voc}, "w")
    elif kind == "damaged xz":
        tar.write_bytes(b"\xfd7zXZ\x00" + b"x" * 100)
    elif kind == "other folders":
        tarred(tar, {name.replace("VOC2012", "VOC2011"): content for name, content in voc.items()}, "w")
    elif kind == "no list":
        tarred(tgz, {name: content for name, content in sbd.items() if not name.endswith("val.txt")}, "w:gz")
    elif kind == "no mat":
        tarred(tgz, sbd | {cls: b"not MATLAB"}, "w:gz")
    elif kind == "a mask of another size":
        tarred(tgz, sbd | {cls: sbd["benchmark_RELEASE/dataset/cls/2008_000002.mat"]}, "w:gz")
    elif kind == "a mask that lacks":
        tarred(tgz, {name: content for name, content in sbd.items() if name != cls}, "w:gz")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated tar", rf"{TAR} is truncated or damaged"),
        ("truncated tgz", rf"{TGZ} is truncated or damaged"),
        ("no tgz", rf"{TGZ} is truncated or damaged"),
        ("a path outside", rf"{TAR} is refused: .*evil\.txt.*outside"),
        ("a path outside in SBD", rf"{TGZ} is refused: .*evil\.mat.*outside"),
        ("a link", rf"{TAR} is refused: .*SegmentationClassAug' is neither a file nor a folder"),
        ("a hard link", rf"{TAR} is refused: .*SegmentationClassAug' is neither a file nor a folder"),
        ("a device", rf"{TAR} is refused: .*SegmentationClassAug' is neither a file nor a folder"),
        ("a claim of terabytes", rf"{TAR} is refused: .*2008_000001.jpg' is too large for it"),
        ("a long name", rf"{TAR} is damaged: a path in it cannot be written \(File name too long\)"),
        ("a file for a folder", rf"{TAR} is damaged: a path in it cannot be written"),
        ("damaged xz", rf"{TAR} is truncated or damaged"),
        ("other folders", "must hold VOCdevkit/VOC2012/JPEGImages"),
        ("no list", r"must hold benchmark_RELEASE/dataset/val\.txt"),
        ("no mat", r"2008_000001\.mat must be a MATLAB file"),
        ("a mask of another size", r"2008_000001\.png must be 4 x 5 \(H x W\) like its image, but is 3 x 7"),
        ("a mask that lacks", "must hold the mask of `2008_000001`"),
    ],
)
def test_an_archive_that_is_wrong_leaves_nothing(archives: Path, tmp_path: Path, kind: str, said: str) -> None:
    spoilt(archives, kind)
    root = tmp_path / "voc12"
    with pytest.raises(ViceError, match=said):
        write_voc(root, archives, sources=sources(archives), verify=False)
    assert left(root) == []
    assert not list(tmp_path.rglob("evil*"))
    write_archives(archives)
    assert write_voc(root, archives, sources=sources(archives)).train_aug == 5


KILLED = """
import os, signal, sys, tarfile
sys.path.insert(0, sys.argv[3])
from published import sources
from pathlib import Path
from torchvice.data import building, voc_aug

where, root, count = Path(sys.argv[1]), sys.argv[2], 0
kind = sys.argv[4]
extract, replace = tarfile.TarFile.extractfile, os.replace

def killing(whole, after):
    def call(*arguments, **named):
        global count
        if (count := count + 1) > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **named)
    return call

if kind == "unpacking":
    tarfile.TarFile.extractfile = killing(extract, 9)
else:
    class Os:
        replace = staticmethod(killing(replace, 3))
        def __getattr__(self, name):
            return getattr(os, name)
    building.os = Os()
voc_aug.write_voc(root, where, sources=sources(where))
"""


@pytest.mark.parametrize("kind", ["unpacking", "moving"])
def test_a_build_that_was_killed_is_begun_anew(archives: Path, tmp_path: Path, kind: str) -> None:
    root, program = tmp_path / "voc12", [sys.executable, "-c", KILLED, str(archives), str(tmp_path / "voc12")]
    done = subprocess.run([*program, str(Path(__file__).parent), kind], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert ".vice-data.part" in left(root)
    assert not (root / "voc.json").exists()
    assert (kind == "moving") == (root / "val.txt").exists()
    made = write_voc(root, archives, sources=sources(archives))
    assert made.train_aug == 5
    assert left(root) == ["VOC2012", "cls_labels.npy", "train.txt", "train_aug.txt", "val.txt", "voc.json"]
    assert len(VocDataset(root, "train_aug")) == 5


def test_a_folder_that_holds_something_else_is_left_alone(archives: Path, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    (root / "val.txt").write_text("mine")
    with pytest.raises(ViceError, match=r"already holds val\.txt"):
        write_voc(root, archives, sources=sources(archives))
    assert left(root) == ["val.txt"]
    assert (root / "val.txt").read_text() == "mine"


def test_two_builds_at_once(archives: Path, tmp_path: Path) -> None:
    from torchvice.data.building import building

    root = tmp_path / "voc12"
    with building(root, ["a"]) as part:
        with pytest.raises(ViceError, match="Another process"):
            write_voc(root, archives, sources=sources(archives))
        (part / "a").write_text("a")
    assert left(root) == ["a"]


def test_a_disk_that_fills_up_leaves_nothing(archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchvice.data.voc_aug._write_mask", full)
    with pytest.raises(ViceError, match="The disk is full; nothing"):
        write_voc(tmp_path / "voc12", archives, sources=sources(archives))
    assert left(tmp_path / "voc12") == []
