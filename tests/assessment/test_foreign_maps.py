"""Maps and logits of another tool become the table that the engine writes of the same maps and logits."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

import torchvice
from small_networks import moving_resnet
from torchvice import ViceError
from torchvice.assessment.foreign_maps import ForeignMaps
from torchvice.assessment.map_files import write_map_files
from torchvice.data import VocDataset, from_items
from torchvice.data.digits import write_digits

PIXELS = {"view_size": 64, "crop": 64, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CHEAP = ("random", "center", "foreground", "shuffled")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=2, test=10, size=48)
    return VocDataset(root, "test")


@pytest.fixture(scope="module")
def own(data, tmp_path_factory):
    """The folder of an engine's table (`t`), its maps as files (`legacy`, `npz`) and its logits (`s.csv`)."""
    folder, model = tmp_path_factory.mktemp("own"), moving_resnet()
    samples = torchvice.assess(model, data, out=folder / "t", protocols=("strict",), controls=CHEAP, **PIXELS)
    for kind in ("legacy", "npz"):
        write_map_files(model, data, folder / kind, protocol="strict", file_format=kind, **PIXELS)
    images = samples.of_protocol("strict").images
    rows = [[name, *map(float, logits)] for name, logits in zip(images.image_id, images.logits, strict=True)]
    write_csv(folder / "s.csv", [["id", *data.classes], *rows])
    return folder


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def assess(own, data, out, maps="legacy", scores="s.csv", **more):
    return torchvice.assess_maps(own / maps, own / scores, data, out=out, view_size=64, **more)


def numbers(content, at=""):
    if isinstance(content, dict):
        return {path: v for key, value in content.items() for path, v in numbers(value, f"{at}.{key}").items()}
    if isinstance(content, list):
        return {path: v for key, value in enumerate(content) for path, v in numbers(value, f"{at}[{key}]").items()}
    return {at: content} if isinstance(content, int | float) else {}


def measured(samples):
    found = numbers(torchvice.measure(samples, replicates=100).to_json())
    return {name: value for name, value in found.items() if not name.startswith((".source", ".table"))}


def test_the_numbers_are_those_of_the_engine(own, data, tmp_path):
    first, second = measured(torchvice.Samples.load(own / "t")), measured(assess(own, data, tmp_path / "t"))
    assert first.keys() == second.keys()
    assert first[".strict.vice"] == pytest.approx(second[".strict.vice"], abs=1e-12)
    for name, value in first.items():
        # The file holds maps of the image's size; on a partner's object they are resized a second time.
        loose = 1e-2 if "shuffled" in name else 1e-6
        assert second[name] == pytest.approx(value, abs=loose, nan_ok=True), name


def test_float16_moves_pixels_at_the_thresholds_only(own, data, tmp_path):
    first, second = torchvice.Samples.load(own / "t"), assess(own, data, tmp_path / "t", maps="npz")
    mine, other = (s.of_protocol("strict").regions for s in (first, second))
    assert mine.mask_pixels.tolist() == other.mask_pixels.tolist()
    # A value in (0.5, 1] is rounded by at most 2^-12: pixels this near to one of 60 thresholds may cross it.
    assert np.abs(mine.predicted - other.predicted).max() <= 20
    assert measured(first)[".strict.ji"] == pytest.approx(measured(second)[".strict.ji"], abs=2e-3)


def test_the_verdict_names_the_part_that_needs_the_network(own, data, tmp_path):
    samples = assess(own, data, tmp_path / "t")
    verdict = torchvice.measure(samples, replicates=100).verdict
    assert samples.foreign
    assert "this needs the network" in " ".join(verdict.sentences)
    assert "vice assess with" not in " ".join(verdict.sentences)
    assert sorted(samples.manifest["explanations"]) == sorted(["strict:maps", *(f"strict:{name}" for name in CHEAP)])


def rewritten(own, data, folder, change, write=np.save, suffix=".npy"):
    """The engine's maps, one file an image, after `change(index, {class: map})`."""
    folder.mkdir()
    files = ForeignMaps(own / "legacy", data)
    for index, record in enumerate(data.records):
        write(folder / f"{record.image_id}{suffix}", change(index, files.read(index)))
    return folder


def irn(_, maps):
    stack = np.stack(list(maps.values()))
    return {"keys": np.array(list(maps)), "cam": stack[:, ::4, ::4], "high_res": stack}


def clip_es(_, maps):
    stack = np.stack(list(maps.values()))
    return {"keys": np.array(list(maps)), "attn_highres": stack}


def all_classes(_, maps):
    shape = next(iter(maps.values())).shape
    return np.stack([maps.get(c, np.ones(shape)) for c in range(10)]).astype(np.float32)


@pytest.mark.parametrize("change", [irn, clip_es, all_classes])
def test_dictionaries_and_stacks_hold_the_same(own, data, tmp_path, change):
    folder = rewritten(own, data, tmp_path / "maps", change)
    said = []
    samples = assess(own, data, tmp_path / "t", maps=folder, say=said.append)
    expected = assess(own, data, tmp_path / "expected")
    assert np.array_equal(samples.regions.predicted, expected.regions.predicted)
    assert any("classes that the image does not have" in s for s in said) == (change is all_classes)


def test_folders_of_classes_hold_grey_pictures(own, data, tmp_path):
    files = ForeignMaps(own / "legacy", data)
    for index, record in enumerate(data.records):
        for c, plane in files.read(index).items():
            (tmp_path / "maps" / data.classes[c]).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.round(plane * 65535).astype(np.uint16))
            picture.save(tmp_path / "maps" / data.classes[c] / f"{record.image_id}.png")
    samples, expected = assess(own, data, tmp_path / "t", maps=tmp_path / "maps"), assess(own, data, tmp_path / "e")
    mine, other = (s.of_protocol("strict").regions for s in (samples, expected))
    # Sixteen bits round the values of a corner, which are all the same, across a threshold here and there.
    assert (mine.intersection != other.intersection).mean() < 0.05
    assert samples.manifest["maps"]["images"]["resized"] == 0


SENTENCES = {
    "resized": (lambda i, maps: {c: m[::4, ::4] for c, m in maps.items()}, "10 of 10 images"),
    "negative": (lambda i, maps: {c: m - (i == 0) for c, m in maps.items()}, "count as 0"),
    "not_finite": (lambda i, maps: {c: m / (i != 0) for c, m in maps.items()}, "counts as a miss"),
    "above_one": (lambda i, maps: {c: 100 * m for c, m in maps.items()}, "up to 100"),
}


@pytest.mark.parametrize("kind", SENTENCES)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_what_is_unusual_is_said_and_kept_in_the_manifest(own, data, tmp_path, kind):
    change, sentence = SENTENCES[kind]
    folder = rewritten(own, data, tmp_path / "maps", change)
    said = []
    samples = assess(own, data, tmp_path / "t", maps=folder, say=said.append)
    assert sentence in " ".join(said)
    assert samples.manifest["maps"]["images"][kind] >= 1
    if kind == "above_one":
        expected = assess(own, data, tmp_path / "expected")
        assert np.abs(samples.regions.predicted - expected.regions.predicted).max() <= 2
        with pytest.raises(ViceError, match=r"must lie in .0, 1., but reach 100 in"):
            assess(own, data, tmp_path / "none", maps=folder, normalisation="none")
    if kind == "not_finite":
        first = samples.regions.where(samples.regions.image_id == data.records[0].image_id)
        assert set(first.status[(first.explanation == "strict:maps") & (first.label > 0)]) == {"nan"}


def test_controls_are_drawn_on_the_grid_of_small_maps(own, data, tmp_path):
    folder = rewritten(own, data, tmp_path / "maps", lambda i, maps: {c: m[:3, :5] for c, m in maps.items()})
    samples = assess(own, data, tmp_path / "t", maps=folder)
    random = samples.maps.map[samples.maps.explanation == "strict:random"]
    assert {plane.shape for plane in random} == {(3, 5)}


def no_class(_, maps):
    return {c + 30: m for c, m in maps.items()}


def one_array(_, maps):
    return np.zeros((2, 3, 4, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_class, "must be of classes 0 to 9, but one is of 3"),
        (one_array, "must say which class each map is of"),
    ],
)
def test_maps_that_cannot_be_used_are_refused_before_the_first_image(own, data, tmp_path, change, message):
    folder = rewritten(own, data, tmp_path / "maps", change)
    with pytest.raises(ViceError, match=message) as told:
        assess(own, data, tmp_path / "t", maps=folder)
    assert "10 images in all" in told.value.message
    assert told.value.way_out
    assert not (tmp_path / "t").exists()


class InBoxes:
    """A dataset class of the user's own whose objects lie in boxes; `without` (set of places) has none."""

    regions = "boxes"

    def __init__(self, data, without=()):
        self.data, self.without = data, without
        self.classes, self.records, self.targets = data.classes, data.records, data.targets
        self.image, self.mask = data.image, data.mask

    def boxes(self, index):
        classes = np.flatnonzero(self.targets[index])
        return None if index in self.without else (classes, np.tile([1.0, 1.0, 20.0, 20.0], (len(classes), 1)))


def test_images_without_a_mask_or_boxes_need_no_maps(own, data, tmp_path):
    folder = rewritten(own, data, tmp_path / "maps", lambda i, maps: maps)
    rows = [{"image": data.image(i), "mask": data.mask(i), "labels": data.targets[i], "id": record.image_id}
            for i, record in enumerate(data.records)]  # fmt: skip
    whole = assess(own, from_items(rows, classes=data.classes), tmp_path / "whole", maps=folder)
    for place in (0, 1):
        (folder / f"{data.records[place].image_id}.npy").unlink()
    for dataset in (from_items(rows, classes=data.classes), InBoxes(data)):
        with pytest.raises(ViceError, match=f"2 of 10 images have no maps in .* such as `{data.records[0].image_id}`"):
            ForeignMaps(folder, dataset)
    for place in (0, 1):
        rows[place] |= {"mask": None}
    found = assess(own, from_items(rows, classes=data.classes), tmp_path / "t", maps=folder)
    first, rest = (samples.of_protocol("strict").regions for samples in (whole, found))
    first = first.where(~np.isin(first.image_id, [data.records[place].image_id for place in (0, 1)]))
    assert rest.image_id.tolist() == first.image_id.tolist()
    assert np.array_equal(rest.intersection, first.intersection)
    assert ForeignMaps(folder, InBoxes(data, {0, 1})).read(0) == {}


def test_maps_that_are_missing_are_counted(own, data, tmp_path):
    folder = rewritten(own, data, tmp_path / "maps", lambda i, maps: maps)
    first = folder / f"{data.records[0].image_id}.npy"
    first.rename(folder / "other.npy")
    with pytest.raises(ViceError, match=f"1 of 10 images have no maps in .* such as `{data.records[0].image_id}`"):
        assess(own, data, tmp_path / "t", maps=folder)
    (folder / "other.npy").rename(first)
    np.save(folder / "unknown.npy", {0: np.zeros((2, 2))})
    said = []
    assess(own, data, tmp_path / "t", maps=folder, say=said.append)
    assert any("1 files" in sentence and "such as unknown.npy" in sentence for sentence in said)
    np.savez(first.with_suffix(".npz"), keys=[0], maps=np.zeros((1, 2, 2)))
    with pytest.raises(ViceError, match="must have one file of maps"):
        assess(own, data, tmp_path / "u", maps=folder)


def test_a_class_without_a_map_is_refused(own, data, tmp_path):
    true = int(np.flatnonzero(data.targets[0])[0])
    other = (true + 1) % 10
    folder = rewritten(own, data, tmp_path / "maps", lambda i, maps: maps if i else {other: np.zeros((4, 4))})
    with pytest.raises(ViceError, match="must hold every class of the image, but lack") as told:
        assess(own, data, tmp_path / "t", maps=folder)
    assert "map of zeros" in told.value.way_out


class Oblong:
    """One image of 40 x 60 with one label."""

    classes, targets = ("a", "b"), np.array([[1, 0]], np.uint8)

    def __init__(self):
        self.records = [type("Record", (), {"image_id": "x"})()]

    def image(self, _):
        return np.zeros((40, 60, 3), np.uint8)

    def mask(self, _):
        mask = np.zeros((40, 60), np.uint8)
        mask[:20, :20] = 1
        return mask


PICTURES = {
    "palette": (lambda: Image.new("P", (60, 40)), "is a label map"),
    "colours": (lambda: Image.new("RGB", (60, 40)), "is a RGB picture"),
    "labels": (lambda: Image.fromarray(np.tile(np.uint8([0, 1, 255]), (40, 20))), "holds only the labels .1."),
    "transposed": (lambda: Image.new("L", (40, 60), 200), "they look transposed"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_that_are_no_maps_are_refused(tmp_path, kind):
    make, message = PICTURES[kind]
    make().save(tmp_path / "x.png")
    with pytest.raises(ViceError, match=message):
        ForeignMaps(tmp_path, Oblong()).survey(1)


def test_a_picture_or_an_array_serves_an_image_of_one_label(tmp_path):
    Image.fromarray(np.full((40, 60), 51, np.uint8)).save(tmp_path / "x.png")
    assert ForeignMaps(tmp_path, Oblong()).read(0)[0] == pytest.approx(0.2)
    (tmp_path / "x.png").unlink()
    np.save(tmp_path / "x.npy", np.full((5, 7), 0.5))
    assert ForeignMaps(tmp_path, Oblong()).read(0)[0].shape == (5, 7)


@pytest.mark.parametrize(
    "damage", [(b"(5, 7)", b"(5, 7 "), (b"'descr'", b"'descr "), (b"<f8", b"<q8"), (b"NUMPY", b"NUMPI")]
)
def test_an_array_whose_header_is_damaged_is_one_sentence(tmp_path, damage):
    np.save(tmp_path / "x.npy", np.full((5, 7), 0.5))
    content = (tmp_path / "x.npy").read_bytes()
    assert damage[0] in content
    (tmp_path / "x.npy").write_bytes(content.replace(*damage))
    with pytest.raises(ViceError, match=r"x\.npy must be an \.npy of numbers, but cannot be read"):
        ForeignMaps(tmp_path, Oblong()).read(0)


def test_a_run_resumes_with_the_same_files_and_no_others(own, data, tmp_path):
    folder = rewritten(own, data, tmp_path / "maps", lambda i, maps: maps)
    first = assess(own, data, tmp_path / "t", maps=folder, shard_size=4)
    for path in (tmp_path / "t").glob("*-00001*.parquet"):
        path.unlink()
    again = assess(own, data, tmp_path / "t", maps=folder, shard_size=4)
    assert np.array_equal(np.sort(first.regions.intersection, 0), np.sort(again.regions.intersection, 0))
    np.save(folder / f"{data.records[0].image_id}.npy", {c: np.ones((2, 2)) for c in range(10)})
    with pytest.raises(ViceError, match="The maps of the dataset are not those that the table"):
        assess(own, data, tmp_path / "t", maps=folder, shard_size=4)


def test_a_dataset_class_of_ones_own_that_is_random_is_refused(own, data, tmp_path):
    class Flipped:
        records, classes, targets = data.records, data.classes, data.targets
        random = np.random.default_rng(0)

        def image(self, index):
            return data.image(index)[:, :: self.random.choice([-1, 1])]

        def mask(self, index):
            return data.mask(index)

    with pytest.raises(ViceError, match="must give the same image each time, but that of"):
        assess(own, Flipped(), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_controls_that_need_the_network_are_refused(own, data, tmp_path):
    with pytest.raises(ViceError, match="random_weights needs the network"):
        assess(own, data, tmp_path / "t", controls=["random_weights"])
    few = assess(own, data, tmp_path / "t", controls=["center"])
    again = assess(own, data, tmp_path / "t", controls=None)
    assert few.manifest["explanations"].keys() == again.manifest["explanations"].keys()


def test_scores_that_are_never_negative_are_said(own, data, tmp_path):
    ids = [record.image_id for record in data.records]
    rows = [[name, *(k / 10 for k in range(10))] for name in ids]
    write_csv(tmp_path / "s.csv", [["id", *data.classes], *[[r[0], *(20 * v for v in r[1:])] for r in rows]])
    said = []
    assess(own, data, tmp_path / "t", scores=tmp_path / "s.csv", outputs="logits", say=said.append)
    assert not any("No score" in sentence for sentence in said)
    write_csv(tmp_path / "s.csv", [["id", *data.classes], *[[r[0], *(2 * v for v in r[1:])] for r in rows]])
    assess(own, data, tmp_path / "u", scores=tmp_path / "s.csv", say=said.append)
    assert any("they say that every image has every class" in sentence for sentence in said)


class Many(Oblong):
    """The same image among 300 classes."""

    classes, targets = tuple(map(str, range(300))), np.eye(1, 300, dtype=np.uint8)


def test_greys_among_more_classes_than_greys_are_no_labels(tmp_path):
    grey = np.linspace(0, 255, 40 * 60).reshape(40, 60).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "x.png")
    np.testing.assert_allclose(ForeignMaps(tmp_path, Many()).read(0)[0], grey / 255, atol=1e-6)
    few = np.resize(np.arange(1, 9, dtype=np.uint8), (40, 60))
    Image.fromarray(few).save(tmp_path / "x.png")
    with pytest.raises(ViceError, match=r"holds only the labels .1, 2, 3\]") as told:
        ForeignMaps(tmp_path, Many()).read(0)
    assert told.value.way_out.startswith("Scale it to 0 to 255, or save it divided by 255 as .npy.")
    (tmp_path / "x.png").unlink()
    np.save(tmp_path / "x.npy", few / 255)
    np.testing.assert_allclose(ForeignMaps(tmp_path, Many()).read(0)[0], few / 255, atol=1e-6)
