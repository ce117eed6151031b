"""Files of the original: its tables byte for byte, its maps, and what happens to damaged ones."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchvice.errors import ViceError
from torchvice.interop import (
    LegacyTable,
    bilinear,
    counts_entropy,
    read_maps,
    read_table,
    write_legacy_maps,
    write_maps,
    write_table,
)

REFERENCE = Path(__file__).parent / "reference"
HEADER = "name_image,loss,confidence,entropy,label,prediction,miou,miou_exist\n"
ROW = 'a,0.5,0.9,2.9,[ 2 13],"[2, 13]",0.25,[0.2 0.3]\n'


def test_reference_table_is_read() -> None:
    reference = np.load(REFERENCE / "C_each_loss.npz")
    table = read_table(REFERENCE / "C_each_loss_table.csv")
    assert table.name_image.tolist() == reference["names"].tolist()
    assert table.loss is not None
    assert table.confidence is not None
    assert table.label is not None
    assert table.prediction is not None
    assert (table.loss.astype(np.float32) == reference["loss"]).all()
    np.testing.assert_allclose(table.confidence, reference["confidence"], rtol=0, atol=1e-15)
    for found, mask in ((table.label, "label_mask"), (table.prediction, "prediction_mask")):
        assert [row.tolist() for row in found] == [np.flatnonzero(row).tolist() for row in reference[mask]]
    assert table.miou is None
    assert table.miou_exist is None


def test_reference_entropy() -> None:
    reference = np.load(REFERENCE / "C_each_loss.npz")
    entropy = counts_entropy(reference["sigmoid"])
    np.testing.assert_allclose(entropy, reference["entropy"], rtol=0, atol=1e-12)
    # 0.5 + 1e-9 is 0.5 in float32: the values coincide. Two pairs of four: ln 2.
    np.testing.assert_allclose(counts_entropy([[0.5, 0.5 + 1e-9, 0.1, 0.1]]), np.log(2), rtol=1e-15)


@pytest.mark.parametrize("name", ["C_each_loss_table.csv", "E2E_miou_loss_table.csv"])
def test_tables_come_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    write_table(tmp_path / "table.csv", read_table(REFERENCE / name))
    assert (tmp_path / "table.csv").read_bytes() == (REFERENCE / name).read_bytes()


def test_reference_scores_of_the_table_agree_with_their_parts() -> None:
    table = read_table(REFERENCE / "E2E_miou_loss_table.csv")
    assert table.miou is not None
    assert table.miou_exist is not None
    means = np.array([row.mean() if len(row) else np.nan for row in table.miou_exist])
    np.testing.assert_allclose(means, table.miou, rtol=0, atol=1e-8)


def test_many_labels_wrap_inside_quotes(tmp_path: Path) -> None:
    scores = np.linspace(0.001, 0.9, 40)
    table = LegacyTable(np.array(["a", "b"]), miou=np.array([0.5, np.nan]), miou_exist=[scores, np.zeros(0)])
    write_table(tmp_path / "t.csv", table)
    assert len((tmp_path / "t.csv").read_text().splitlines()) > 3  # numpy breaks the line, as it did for the original
    back = read_table(tmp_path / "t.csv")
    assert back.miou_exist is not None
    assert back.miou is not None
    np.testing.assert_allclose(back.miou_exist[0], scores, rtol=0, atol=5e-9)
    assert back.miou_exist[1].shape == (0,)
    assert np.isnan(back.miou[1])
    assert back.loss is None


def test_order_and_extra_columns_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("﻿,label,note,name_image\n0,[],what,x\n\n1,[4.],else,y\n", encoding="utf-8")
    table = read_table(path)
    assert table.name_image.tolist() == ["x", "y"]
    assert table.label is not None
    assert [row.tolist() for row in table.label] == [[], [4]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "but has none"),
        (HEADER, "at least one image"),
        (HEADER.replace("name_image", "image") + ROW, "name_image"),
        (HEADER.replace("loss", "miou") + ROW, "each once"),
        (HEADER + ROW + ROW, "`a` is in lines 2 and 3"),
        (HEADER + ROW[:20] + "\n", "Line 2 .* 8 cells .* has 5"),
        (HEADER + ROW.replace("0.9", "high"), "Line 2 .* column confidence, must be a finite number, but is 'high'"),
        (
            HEADER + ROW.replace("0.9", "inf"),
            "column confidence, must be a finite number, but is 'inf'.\n.*Empty cells",
        ),
        (HEADER + ROW.replace("[ 2 13]", "2 13"), "column label"),
        (HEADER + ROW.replace("[ 2 13]", "[2 ... 13]"), "column label"),
        (HEADER + ROW.replace("[2, 13]", "[2.5]"), "column prediction"),
        (HEADER + ROW.replace("[0.2 0.3]", '"[0.2\n 0.3]"') + ROW.replace("a,", "b,").replace("0.5", "x"), "Line 4 "),
        (HEADER + ROW.replace("[0.2 0.3]", '"[0.2'), "cannot be read"),
    ],
)
def test_wrong_tables_are_told_with_line_and_column(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ViceError, match=words):
        read_table(tmp_path / "t.csv")


def test_binary_and_missing_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(bytes(range(256)))
    with pytest.raises(ViceError, match="cannot be read"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(ViceError, match="does not exist"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(ViceError, match="one length"):
        write_table(tmp_path / "w.csv", LegacyTable(np.array(["a"]), loss=np.zeros(2)))
    assert not (tmp_path / "w.csv").exists()


def test_legacy_maps_round_trip_and_are_what_the_original_loads(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 5, 6))
    write_legacy_maps(tmp_path / "m.npy", [7, 3], maps)
    original = np.load(tmp_path / "m.npy", allow_pickle=True).item()
    assert list(original) == [7, 3]
    assert original[3].dtype == np.float32
    classes, back = read_maps(tmp_path / "m.npy")
    assert classes.tolist() == [7, 3]
    np.testing.assert_array_equal(back, maps.astype(np.float32))
    write_legacy_maps(tmp_path / "none.npy", [], [])
    assert len(read_maps(tmp_path / "none.npy")[0]) == 0


def test_compact_maps_round_trip(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    write_maps(tmp_path / "m.npz", [7, 3], maps, (40, 33))
    classes, back = read_maps(tmp_path / "m.npz")
    assert classes.tolist() == [7, 3]
    np.testing.assert_array_equal(back, bilinear(maps.astype(np.float16), (40, 33)))
    np.testing.assert_allclose(back, bilinear(maps, (40, 33)), rtol=0, atol=5e-4)
    write_maps(tmp_path / "full.npz", [7, 3], maps, dtype=np.float32)
    np.testing.assert_array_equal(read_maps(tmp_path / "full.npz")[1], maps)
    write_maps(tmp_path / "none.npz", [], [], (40, 33))
    assert read_maps(tmp_path / "none.npz")[1] == []
    with pytest.raises(ViceError, match="fit into float16"):
        write_maps(tmp_path / "big.npz", [0], np.full((1, 2, 2), 1e6))
    assert not (tmp_path / "big.npz").exists()
    np.savez(tmp_path / "cams.npz", keys=np.array([7, 3]), cams=maps)
    np.testing.assert_array_equal(read_maps(tmp_path / "cams.npz")[1], maps)


@pytest.mark.parametrize("size", [(375, 500), (7, 9), (3, 4), (1, 1), (64, 5)])
def test_bilinear_equals_torch(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).random((3, 7, 9)).astype(np.float32)
    with torch.no_grad():
        whole = torch.nn.functional.interpolate(torch.tensor(maps)[None], size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(bilinear(maps, size), whole[0].numpy(), rtol=0, atol=1e-6)


def test_scaling_commutes_with_enlarging() -> None:
    maps = np.random.default_rng(0).random((1, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(bilinear(3 * maps - 1, (30, 41)), 3 * bilinear(maps, (30, 41)) - 1, atol=1e-6)


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"cam": np.zeros((2, 2))}, "has the key 'cam'"),
        ({1: np.zeros(4)}, "shape \\(4,\\)"),
        ({1: [[0.0]]}, "one is list"),
        ({1: np.array([["a"]])}, "one is <U1"),
        ({1: _Evil()}, "which data never needs"),
        ([1, 2], "must hold a dictionary|cannot be read"),
    ],
)
def test_wrong_dictionaries_are_told(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.npy"
    boxed = np.empty((), dtype=object)
    boxed[()] = content
    np.save(path, boxed, allow_pickle=True)
    with pytest.raises(ViceError, match=words) as caught:
        read_maps(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"maps": np.zeros((1, 2, 2))}, "must hold `keys`"),
        ({"keys": np.array([1])}, "must hold `keys`"),
        ({"keys": np.array([1, 2]), "maps": np.zeros((1, 2, 2))}, "but they are"),
        ({"keys": np.array([0.5]), "maps": np.zeros((1, 2, 2))}, "but they are"),
        ({"keys": np.array([1, 1]), "maps": np.zeros((2, 2, 2))}, "different classes"),
        ({"keys": np.array([1]), "maps": np.zeros((1, 2, 2)), "size": np.array([4])}, "must be \\(H, W\\)"),
        ({"keys": np.array([1]), "maps": np.zeros((1, 2, 2), complex)}, "one is complex"),
        ({"keys": np.array([1], dtype=object), "maps": np.zeros((1, 2, 2))}, "cannot be read"),
    ],
)
def test_wrong_archives_are_told(arrays: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ViceError, match=words):
        read_maps(tmp_path / "m.npz")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_damaged_files_are_told(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{suffix}"
    maps = np.random.default_rng(0).random((2, 5, 6))
    if suffix == "npy":
        write_legacy_maps(path, [1, 2], maps)
    else:
        write_maps(path, [1, 2], maps, (10, 12))
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 3, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ViceError, match=f"m.{suffix}"):
            read_maps(path)
    rng = np.random.default_rng(1)
    for _ in range(60):  # one byte flipped anywhere: read all the same, or told, but never anything else
        broken = bytearray(whole)
        broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        with contextlib.suppress(ViceError):
            read_maps(path)
    path.write_bytes(pickle.dumps({1: 2}))
    with pytest.raises(ViceError, match=f"m.{suffix}"):
        read_maps(path)


@pytest.mark.parametrize(
    ("classes", "maps", "words"),
    [
        ([1], np.zeros((2, 3, 3)), "one length"),
        ([1, 1], np.zeros((2, 3, 3)), "must be different and 0 or more"),
        ([-1], [[[0]]], "0 or more"),
    ],
)
def test_wrong_maps_are_not_written(classes: Any, maps: Any, words: str, tmp_path: Path) -> None:
    for write, name in ((write_legacy_maps, "m.npy"), (write_maps, "m.npz")):
        with pytest.raises(ViceError, match=words):
            write(tmp_path / name, classes, maps)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("column", "cell"), [("confidence", "45.2"), ("miou", "61"), ("miou_exist", "[61.0 0.2]"), ("loss", "-0.7")]
)
def test_values_outside_their_range_are_refused_by_line_and_column(tmp_path: Path, column: str, cell: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"name_image,{column}\na,{'[0.1]' if column == 'miou_exist' else '0.1'}\nb,{cell}\n")
    with pytest.raises(ViceError, match=f"Line 3 of .*column {column}, must be (in|0 or more).* but is"):
        read_table(file)


@pytest.mark.parametrize("kind", ["a password", "a claim of terabytes"])
def test_an_odd_npz_is_refused_by_a_sentence(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "m.npz"
    write_maps(file, [7, 3], np.zeros((2, 4, 5)), (40, 33))
    if kind == "a password":
        content = file.read_bytes()
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            parts = content.split(mark)
            content = mark.join([parts[0], *(part[: at - 4] + b"\x01\x00" + part[at - 2 :] for part in parts[1:])])
        file.write_bytes(content)
    else:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 45,)})
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("keys.npy", header.getvalue())
    with pytest.raises(
        ViceError, match=r"m\.npz must be an \.npz archive of numbers, but cannot be read: .+\."
    ) as caught:
        read_maps(file)
    assert "np.savez" in caught.value.way_out
