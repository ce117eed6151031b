"""The data of `torchvice.assess`: folders and Python objects give the same table; `out` and the bar may be left out."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import torchvice
from torchvice.assessment import MapSettings
from torchvice.assessment.map_files import write_map_files
from torchvice.commands.tables import check_unchanged, dataset_of
from torchvice.data import open_images, survey
from torchvice.data.open import image_layout
from torchvice.errors import ViceError
from torchvice.files.progress import shown_progress

SIZES = {"view_size": 32, "crop": 32, "outputs": "logits", "device": "cpu", "method": "gradcam"}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=1).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """photos/a.png, b.png, c.png of 32 x 40, and masks/a_mask.png and so on with a square of 255."""
    root = tmp_path_factory.mktemp("given")
    for place in ("photos", "masks"):
        (root / place).mkdir()
    for seed, name in enumerate("abc"):
        mask = np.zeros((32, 40), np.uint8)
        mask[4 + seed : 16, 10:24] = 255
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}_mask.png")
    return root


def items(folder: Path) -> list[dict[str, object]]:
    files = {name: (folder / "photos" / f"{name}.png", folder / "masks" / f"{name}_mask.png") for name in "abc"}
    return [{"image": Image.open(i), "mask": Image.open(m), "id": name} for name, (i, m) in files.items()]


def test_folders_and_items_give_the_table_of_their_dataset(network, folder, tmp_path, told):
    photos, masks = folder / "photos", folder / "masks"
    table = torchvice.assess(network, open_images(photos, masks), out=tmp_path / "a", **SIZES)
    assert told().count("\n") == 0  # the map of so small an image has one position, and nothing else is said
    for number, given in enumerate(((), (items(folder),), (iter(items(folder)),))):
        named = {} if given else {"images": photos, "masks": str(masks)}
        other = torchvice.assess(network, *given, out=tmp_path / f"b{number}", **named, **SIZES)
        assert np.array_equal(table.images.logits, other.images.logits)
        assert np.array_equal(table.regions.mask_pixels, other.regions.mask_pixels)
        assert table.images.image_id.tolist() == other.images.image_id.tolist()
        assert "255 is the class `object`" in told()
        assert other.manifest["dataset"]["chosen"]["object_value"] == "255"


def test_the_dataset_of_a_table_is_opened_again(network, folder, tmp_path, monkeypatch):
    root = shutil.copytree(folder, tmp_path / "set")
    table = torchvice.assess(
        network, images=root / "photos", masks=root / "masks", classes=["polyp"], out=tmp_path / "t", **SIZES
    )
    opened = dataset_of(table)
    assert opened.classes == ("polyp",)
    assert np.array_equal(opened.mask(0), open_images(root / "photos", root / "masks").mask(0))
    check_unchanged(table, opened)
    (root / "masks" / "a_mask.png").write_bytes((root / "masks" / "b_mask.png").read_bytes())
    with pytest.raises(ViceError, match=r"The masks in .* are not those that the table was made of"):
        check_unchanged(table, dataset_of(table))
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):  # what lies in the working directory is not the data of a table without a folder
        shutil.copytree(root / "photos", tmp_path / "here" / name)
    monkeypatch.chdir(tmp_path / "here")
    assert dataset_of(torchvice.assess(network, items(folder), out=tmp_path / "u", **SIZES)) is None


def test_without_out_the_table_is_in_a_temporary_folder_and_it_is_told(network, folder, told):
    table = torchvice.assess(network, items(folder), **SIZES)
    said = told()
    place = said.split("The table is in a temporary folder: ")[1].split(". To keep it, give out='DIR'.")[0]
    assert torchvice.Samples.load(place).images.image_id.tolist() == table.images.image_id.tolist()
    shutil.rmtree(place)


def test_a_refused_assessment_leaves_no_temporary_folder(folder, told, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    three = timm.create_model("test_resnet", num_classes=3).eval()
    with pytest.raises(ViceError, match="must have one output, for the only class, but has 3"):
        torchvice.assess(three, images=folder / "photos", masks=folder / "masks", **SIZES)
    assert "temporary folder" not in told()
    assert not list(tmp_path.iterdir())


def test_a_path_is_a_folder(network, folder, tmp_path):
    for name in ("cat", "dog"):
        shutil.copytree(folder / "photos", tmp_path / "set" / name)
    torch.manual_seed(0)
    two = timm.create_model("test_resnet", num_classes=2).eval()
    table = torchvice.assess(two, tmp_path / "set", out=tmp_path / "t", **SIZES)
    assert table.manifest["targets"] == "exclusive"
    assert table.images.image_id.tolist()[0] == "cat/a"
    measures = torchvice.measure(table, replicates=0)
    assert np.isnan(measures.strict["vice"])
    assert any(map(np.isfinite, measures.classification.values()))


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (None, {}, "An assessment needs data, but none are given"),
        (None, {"masks": "m"}, "`masks` goes with `images`, which is not given"),
        ("photos", {"images": "photos"}, "Give one dataset: `dataset` and `images` are both given"),
        (3, {}, "must be a folder, have classes"),
        (None, {"image": "photos"}, "Unknown keyword argument `image`"),
    ],
)
def test_data_that_are_missing_or_given_twice(network, dataset, options, message, tmp_path):
    with pytest.raises(ViceError, match=message):
        torchvice.assess(network, dataset, out=tmp_path, **options, **SIZES)


def test_the_bar_is_drawn_where_it_is_asked_for(network, folder, tmp_path, capsys):
    dataset = open_images(folder / "photos", folder / "masks")
    for number, (progress, shown) in enumerate(((True, True), (None, False), (False, False))):
        torchvice.assess(network, dataset, out=tmp_path / str(number), progress=progress, **SIZES)
        assert ("views" in capsys.readouterr().err) == shown
    steps: list[tuple[int, int]] = []
    torchvice.assess(network, dataset, out=tmp_path / "f", progress=lambda *step: steps.append(step), **SIZES)
    assert steps[-1] == (6, 6)


def test_a_terminal_has_a_bar(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    with shown_progress("views", None, None) as (step, passes):
        assert step is not None
        assert passes is not None
    monkeypatch.delenv("FORCE_COLOR")
    with shown_progress("views", None, None) as (step, passes):
        assert step is None
        assert passes is None


def test_exclusive_targets_of_one_class_are_refused(network, folder, tmp_path):
    """The softmax of one output is 1 whatever the network says: accuracy 1 and a calibration error of 0."""
    (tmp_path / "photos").mkdir()
    shutil.copytree(folder / "photos", tmp_path / "photos" / "cat")
    with pytest.raises(ViceError, match="need two classes or more, since a softmax of one output is always 1") as told:
        torchvice.assess(network, images=tmp_path / "photos", out=tmp_path / "t", progress=False, **SIZES)
    assert "--targets multilabel" in told.value.way_out
    samples = torchvice.assess(
        network, images=tmp_path / "photos", out=tmp_path / "t", progress=False, targets="multilabel", **SIZES
    )
    assert samples.classes == ("cat",)
    assert len(samples.of_protocol("strict").images) == 3


def test_images_without_any_label_are_refused(network, tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ViceError, match=r"needs images with labels, but none of the 1 has one \(labels: items\)"):
        torchvice.assess(network, [{"image": pixels, "labels": [0]}], classes=["cat"], out=tmp_path / "t", **SIZES)


class Own:
    """A dataset class of a user's own, which mirrors an image with a chance; its ids are 0 to 7."""

    classes, targets = ("object",), np.ones((8, 1), np.uint8)
    records = tuple(SimpleNamespace(image_id=str(index)) for index in range(8))

    def __init__(self, chance: float) -> None:
        self.chance, self.random = chance, np.random.default_rng(0)

    def image(self, index: int) -> np.ndarray:
        pixels = np.random.default_rng(index).integers(0, 256, (32, 40, 3), dtype=np.uint8)
        return pixels[:, :: -1 if self.random.random() < self.chance else 1]

    def mask(self, index: int) -> np.ndarray:
        mask = np.zeros((32, 40), np.uint8)
        mask[4:16, 10:24] = 1
        return mask


@pytest.mark.parametrize("chance", [0.5, 0.1])
def test_a_dataset_class_of_ones_own_that_is_random_is_refused(network, tmp_path, chance):
    torchvice.assess(network, Own(0), out=tmp_path / "steady", **SIZES)
    with pytest.raises(ViceError, match=r"must give the same image each time, but that of `\d` changes"):
        torchvice.assess(network, Own(chance), out=tmp_path / "random", **SIZES)
    assert not (tmp_path / "random").exists()


def test_images_that_are_turned_views_are_those_of_their_copies(network, tmp_path):
    class Turned(Own):
        def image(self, index: int) -> np.ndarray:
            return super().image(index)[..., ::-1]  # as the colours of OpenCV are turned

    class Copied(Turned):
        def image(self, index: int) -> np.ndarray:
            return super().image(index).copy()

    tables = [
        torchvice.assess(network, data(0), out=tmp_path / data.__name__, controls=True, **SIZES)
        for data in (Turned, Copied)
    ]
    found, expected = (table.of_protocol("strict") for table in tables)
    np.testing.assert_array_equal(found.images.logits, expected.images.logits)
    np.testing.assert_array_equal(found.regions.intersection, expected.regions.intersection)


def dark(count: int, bright: int = 0) -> list[dict[str, object]]:
    """`count` images divided by 255 twice, of which the first `bright` are divided once."""
    mask = np.zeros((32, 40), np.uint8)
    mask[4:16, 10:24] = 255
    pixels = [np.random.default_rng(seed).integers(0, 256, (32, 40, 3)) / 255 for seed in range(count)]
    return [{"image": one / (1 if n < bright else 255), "mask": mask, "id": str(n)} for n, one in enumerate(pixels)]


def test_images_that_are_all_almost_black_are_said_once(network, tmp_path, told):
    said = "The first 4 images are all almost black: no value is above 1 of 255. Were they divided by 255 twice"
    torchvice.assess(network, dark(4), out=tmp_path / "a", **SIZES)
    assert told().count(said) == 1
    torchvice.assess(network, dark(4), out=tmp_path / "b", shard_size=2, **SIZES)
    assert told().count("almost black") == 1
    torchvice.assess(network, dark(4, bright=1), out=tmp_path / "c", **SIZES)
    assert "almost black" not in told()


def test_black_images_in_folders_are_said_by_the_check_and_by_maps(network, folder, tmp_path, told):
    root = shutil.copytree(folder, tmp_path / "set")
    for file in (root / "photos").iterdir():
        Image.fromarray((np.asarray(Image.open(file)) > 128).astype(np.uint8)).save(file)
    (found,) = survey(image_layout(root / "photos", root / "masks"))
    assert any(note.startswith("All 3 images are almost black: no value is above 1 of 255.") for note in found.notes)
    (found,) = survey(image_layout(folder / "photos", folder / "masks"))
    assert not any("almost black" in note for note in found.notes)
    settings = MapSettings(view_size=32, crop=32, outputs="logits", device="cpu", method="gradcam")
    write_map_files(network, open_images(root / "photos", root / "masks"), tmp_path / "maps", settings=settings)
    assert told().count("The first 3 images are all almost black") == 1


def test_what_is_said_is_on_standard_error_until_a_logger_is_configured(tmp_path: Path) -> None:
    program = (
        "import logging, sys\n"
        "from torchvice.assessment.opened import tell\n"
        "tell('100 % of 3 images')\n"
        "logging.getLogger('torchvice').addHandler(logging.FileHandler(sys.argv[1]))\n"
        "tell('to the file')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log")], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "100 % of 3 images\n")
    assert (tmp_path / "log").read_text() == "to the file\n"
