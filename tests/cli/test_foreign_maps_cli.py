"""`vice assess --maps DIR --scores FILE`, and the commands that read its table."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from command import vice
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A dataset, maps that lie on half of the objects, and logits."""
    folder = tmp_path_factory.mktemp("given")
    write_digits(folder / "set", train=2, val=16, test=2, size=48)
    data, rng = VocDataset(folder / "set", "val"), np.random.default_rng(0)
    (folder / "maps").mkdir()
    rows = [["id", *data.classes]]
    for index, record in enumerate(data.records):
        mask, true = data.mask(index), np.flatnonzero(data.targets[index]).tolist()
        planes = {c: (mask == c + 1) * 0.9 + rng.random(mask.shape) * 0.1 for c in true}
        np.save(folder / "maps" / f"{record.image_id}.npy", {c: m.astype(np.float32) for c, m in planes.items()})
        rows.append([record.image_id, *(4 * data.targets[index] - 2 + rng.normal(size=10)).round(3)])
    with open(folder / "s.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def arguments(given, out, *more):
    files = ("--maps", given / "maps", "--scores", given / "s.csv", "--data", given / "set", "--out", out)
    return ("assess", *files, *more)


def test_the_table_goes_through_measure_compare_and_report(given, tmp_path, capsys):
    status, told, said = vice(capsys, *arguments(given, tmp_path / "a"))
    assert status == 0, said
    assert "16 images assessed, under strict alone, as paper needs a crop of its own." in told
    status, _, said = vice(capsys, *arguments(given, tmp_path / "b", "--choice", "normalisation=minmax"))
    assert status == 0, said
    status, told, said = vice(capsys, "measure", tmp_path / "a", "--replicates", 100)
    assert status == 0, said
    assert "this needs the network" in " ".join(told.split())
    found = json.loads((tmp_path / "a" / "measures.json").read_text())
    assert set(found["controls"]) >= {"random", "center", "foreground", "shuffled"}
    status, told, said = vice(capsys, "compare", tmp_path / "a", tmp_path / "b", "--replicates", 100)
    assert status == 0, said
    assert "normalisation (a: max, b: minmax)" in " ".join(told.split())
    status, _, said = vice(capsys, "report", tmp_path / "a")
    assert status == 0, said
    assert "maps of another tool" in (tmp_path / "a" / "report.html").read_text()


def test_a_part_of_the_table_says_how_much_is_there(given, tmp_path, capsys):
    status, told, said = vice(capsys, *arguments(given, tmp_path / "a", "--shard", "2/2"))
    assert status == 0, said
    others = "the other parts of 2 go on, or have yet to be started (--shard I/2)."
    assert f"8 of 16 images assessed, under strict alone, as paper needs a crop of its own; {others}" in told
    assert "Next" not in told
    status, told, said = vice(capsys, *arguments(given, tmp_path / "a", "--shard", "1/2"))
    assert status == 0, said
    alone = "under strict alone, as paper needs a crop of its own"
    assert f": 16 images assessed, {alone}. Next: vice measure {tmp_path / 'a'}" in told


def test_images_without_lists_have_maps_too(given, tmp_path, capsys):
    data = VocDataset(given / "set", "val")
    lines = ["id,digit"]
    for index, record in enumerate(data.records):
        for name in ("photos", "masks", "maps"):
            (tmp_path / name).mkdir(exist_ok=True)
        mask = data.mask(index) > 0
        Image.fromarray(data.image(index)).save(tmp_path / "photos" / f"{record.image_id}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "masks" / f"{record.image_id}_mask.png")
        np.save(tmp_path / "maps" / f"{record.image_id}.npy", {0: mask.astype(np.float32) + 0.1})
        lines.append(f"{record.image_id},{index / 4}")
    (tmp_path / "s.csv").write_text("\n".join(lines))
    files = ("--maps", tmp_path / "maps", "--scores", tmp_path / "s.csv", "--images", tmp_path / "photos")
    files += ("--masks", tmp_path / "masks", "--classes", "digit", "--out", tmp_path / "t")
    status, told, said = vice(capsys, "assess", *files)
    assert status == 0, said
    assert "NAME_mask" in told
    assert "16 images assessed" in told
    status, _, said = vice(capsys, "assess", *files, "--split", "val")
    assert status == 2
    assert "--split names a list, but --images has none" in " ".join(said.split())
    status, _, said = vice(capsys, "assess", *files, "--data", given / "set")
    assert status == 2
    assert "are both given" in " ".join(said.split())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--protocol", "paper"), "assessed under strict, but --protocol is paper"),
        (("--model", "resnet50"), "--model has no effect with --maps"),
        (("--also", "mirror"), "--also has no effect with --maps"),
        (("--precision", "bfloat16"), "--precision has no effect with --maps"),
        (("--channels-last",), "--channels-last has no effect with --maps"),
        (("--device", "cuda:7"), "--device has no effect with --maps"),
        (("--batch-size", 3), "--batch-size has no effect with --maps"),
        (("--prompts", "nowhere.yaml"), "--prompts has no effect with --maps"),
        (("--faithfulness", "road"), "--faithfulness has no effect"),
        (("--without", "object"), "--without has no effect"),
        (("--choice", "mirror=true"), "--choice mirror has no effect"),
        (("--controls", "all"), "random_weights needs the network"),
    ],
)
def test_what_needs_a_network_is_refused(given, tmp_path, capsys, more, message):
    status, _, said = vice(capsys, *arguments(given, tmp_path / "t", *more))
    assert status == 2
    assert message in " ".join(said.split())
    assert not (tmp_path / "t").exists()


def test_the_three_options_go_together(given, tmp_path, capsys):
    status, _, said = vice(capsys, "assess", "--maps", given / "maps", "--data", given / "set")
    assert status == 2
    assert "Missing: --scores" in said
