"""Interventions: margins on changed images by a plain loop, and a network whose answer is known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import torchvice
from torchvice import Samples, ViceError
from torchvice.assessment.interventions import margins, projected
from torchvice.assessment.region import Region
from torchvice.data.filling import dilated, filled
from torchvice.data.transforms import normalise
from torchvice.explain import Choices
from torchvice.samples import INTERVENTIONS, ShardFolder

SIDE = 32
COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250]], np.uint8)


@dataclass(frozen=True)
class Record:
    image_id: str


class Squares:
    """Images with a coloured square for every class on noise; images with the last class bear a white corner."""

    classes = ("red", "green", "blue")
    exclusive = False

    def __init__(self, n=10, seed=0, exclusive=False):
        random = np.random.default_rng(seed)
        self.exclusive = exclusive
        self.records = [Record(f"s{i}") for i in range(n)]
        self.targets = np.zeros((n, 3), np.uint8)
        self.images, self.masks = [], []
        for i in range(n):
            chosen = [i % 3] if exclusive else sorted({i % 3, int(random.integers(3))})
            self.targets[i, chosen] = 1
            image = random.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            for place, c in enumerate(chosen):
                y, x = 4 + 14 * place, int(random.integers(4, 18))
                image[y : y + 8, x : x + 8], mask[y : y + 8, x : x + 8] = COLOURS[c], c + 1
            if 2 in chosen:
                image[-4:, -4:] = 255
            self.images.append(image)
            self.masks.append(mask)

    def __len__(self):
        return len(self.records)

    def image(self, index):
        return self.images[index]

    def mask(self, index):
        return self.masks[index]


class ByColour(nn.Module):
    """Finds red and green by their colour anywhere, and blue by the white corner at the lower right."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1, bias=False)
        self.features.weight.data = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [1, 1, 1]])[:, :, None, None]
        self.bias = torch.tensor([-0.2, -0.2, -2.5])

    def forward(self, x):
        maps = functional.relu(self.features(x) + self.bias[None, :, None, None])
        return 40 * maps.mean((2, 3)) - 0.05


def assess(dataset, out, **more):
    options = {"view_size": SIDE, "mean": (0, 0, 0), "std": (1, 1, 1), "batch_size": 3, "shard_size": 4}
    options |= {"layer": "features", "method": "gradcam", "protocols": ("strict",), **more}
    return torchvice.assess(ByColour(), dataset, out=out, **options)


@pytest.fixture(scope="module")
def dataset():
    return Squares()


@pytest.fixture(scope="module")
def samples(dataset, tmp_path_factory):
    return assess(dataset, tmp_path_factory.mktemp("t") / "t", without=["object", "background", "patch", "noise"])


def true_rows(samples):
    regions = samples.of_explanation(samples.of_protocol("strict").explanation)
    return regions.where((regions.label > 0) & (regions.mask_pixels > 0))


def test_margins_equal_a_plain_loop(samples, dataset):
    rows, model = true_rows(samples), ByColour()
    for row in range(len(rows)):
        index = int(rows.image_id[row][1:])
        c = int(rows.label[row]) - 1
        image = normalise(dataset.image(index), (0, 0, 0), (1, 1, 1))[None]
        shown = dilated(torch.from_numpy(dataset.mask(index) == c + 1)[None, None], 5)
        for column, gone in {"without_object": shown, "without_background": ~shown}.items():
            with torch.no_grad():
                expected = model(filled(image, gone, "blur"))[0, c]
            assert getattr(rows, column)[row] == pytest.approx(float(expected), abs=1e-4)


def test_the_classes_that_rely_on_their_object_lose_it(samples):
    rows = true_rows(samples)
    own, corner = rows.label < 3, rows.label == 3
    assert (rows.without_object[own] < 0).all()
    assert (rows.without_background[own] > 0).all()
    assert (rows.without_object[corner] > 0).all()
    assert (rows.without_background[corner] < 0).all()
    assert (rows.with_hole[own & np.isfinite(rows.with_hole)] > 0).all()


def test_the_shortcut_is_where_the_map_peaks_and_covering_it_costs_the_label(samples):
    rows = true_rows(samples)
    corner = rows.label == 3
    assert corner.any()
    assert (rows.peak_y[corner] > 0.8).all()
    assert (rows.peak_x[corner] > 0.8).all()
    assert (rows.peak_side[corner] == 1 / 8).all()
    assert (rows.peak_covered[corner] < 0).all()
    assert (rows.elsewhere_covered[corner] > 0).all()
    assert np.isfinite(rows.peak_features[corner]).all()
    assert np.isnan(rows.peak_covered[~corner]).all()  # they look at their object, and need it


def test_a_patch_is_no_smaller_than_a_cell_of_the_map(dataset, tmp_path):
    model = nn.Sequential(nn.AvgPool2d(8), ByColour())
    options = {"view_size": SIDE, "mean": (0, 0, 0), "std": (1, 1, 1), "layer": "1.features", "method": "gradcam"}
    samples = torchvice.assess(model, dataset, out=tmp_path / "t", protocols=("strict",), without="patch", **options)
    sides = true_rows(samples).peak_side
    assert set(sides[np.isfinite(sides)]) == {8 / SIDE}  # the map has 4 x 4 cells


class Framed(Squares):
    """The same images in the middle of larger ones."""

    def __init__(self, frame):
        super().__init__()
        around = [(space // 2, space // 2) for space in frame]
        self.images = [np.pad(image, [*around, (0, 0)], constant_values=110) for image in self.images]
        self.masks = [np.pad(mask, around) for mask in self.masks]


@pytest.mark.parametrize(
    ("frame", "view", "pixels"),
    [((0, 0), "warp", 4 * 4), ((32, 64), "crop", 4 * 4), ((0, 32), "whole", 4 * 4), ((0, 32), "warp", 4 * 8)],
)
def test_the_side_of_a_patch_is_a_share_of_the_stored_image(frame, view, pixels, tmp_path):
    data = Framed(frame)
    samples = assess(data, tmp_path / "t", without="patch", choices=Choices(view=view))
    sides = true_rows(samples).peak_side
    height, width = data.images[0].shape[:2]
    drawn = (sides[np.isfinite(sides)] ** 2) * height * width  # on the page its side is this share of each side
    assert len(drawn)
    assert drawn == pytest.approx(pixels)


def test_only_true_pairs_of_the_headline_have_columns(samples, dataset):
    regions = samples.regions
    headline = regions.explanation == samples.of_protocol("strict").explanation
    background = regions.label == 0
    for name in (*INTERVENTIONS, "peak_features"):
        assert np.isnan(getattr(regions, name)[~headline | background]).all(), name


@pytest.mark.parametrize("more", [{"batch_size": 1}, {"shard_size": 100}, {"workers": 0}])
def test_columns_do_not_depend_on_batches_and_shards(samples, dataset, tmp_path, more):
    other = assess(dataset, tmp_path / "t", without=["object", "background", "patch", "noise"], **more)
    for name in (*INTERVENTIONS, "peak_features"):
        first, second = (getattr(true_rows(each), name) for each in (samples, other))
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-5, err_msg=name)


def test_they_can_be_added_to_a_finished_table(samples, dataset, tmp_path):
    before = assess(dataset, tmp_path / "t")
    assert np.isnan(before.regions.without_object).all()
    after = assess(dataset, tmp_path / "t", without=["object", "background", "patch", "noise"])
    for name in vars(samples.regions):
        column = getattr(samples.regions, name)
        np.testing.assert_array_equal(getattr(after.regions, name), column, err_msg=name)
    entry = after.manifest["explanations"]["strict:gradcam"]["interventions"]
    assert entry["treatments"] == ["object", "background", "patch", "noise"]
    assert entry["filling"] == "blur"
    assert entry["dilation"] == 5
    again = assess(dataset, tmp_path / "t")  # a later call may leave them out
    np.testing.assert_array_equal(again.regions.without_object, after.regions.without_object)
    with pytest.raises(ViceError, match=r"`filling` of `interventions` of the explanation .* 'blur' .* 'mean' now"):
        assess(dataset, tmp_path / "t", without=["object", "filling=mean"])


def test_a_killed_run_resumes_with_the_same_columns(samples, dataset, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, total):
        if done > 5:
            raise Killed

    options = {"without": ["object", "background", "patch", "noise"]}
    with pytest.raises(Killed):
        assess(dataset, tmp_path / "t", progress=kill, **options)
    after = assess(dataset, tmp_path / "t", **options)
    np.testing.assert_array_equal(after.regions.without_object, samples.regions.without_object)
    assert after.manifest["finished"]


@pytest.mark.parametrize("filling", ["mean", "noise", "background"])
def test_other_fillings(dataset, tmp_path, filling):
    rows = true_rows(assess(dataset, tmp_path / "t", without=["object", f"filling={filling}", "dilation=1"]))
    assert (rows.without_object[rows.label < 3] < 0).all()
    assert np.isnan(getattr(rows, f"object_by_{filling}")).all()
    assert np.isnan(rows.without_background).all()
    assert np.isnan(rows.peak_y).all()


def test_exclusive_targets_have_the_lead_of_the_class(tmp_path):
    dataset = Squares(9, exclusive=True)
    samples = assess(dataset, tmp_path / "t", without=["object"], targets="exclusive")
    rows, model = true_rows(samples), ByColour()
    for row in range(len(rows)):
        index, c = int(rows.image_id[row][1:]), int(rows.label[row]) - 1
        image = normalise(dataset.image(index), (0, 0, 0), (1, 1, 1))[None]
        gone = dilated(torch.from_numpy(dataset.mask(index) == c + 1)[None, None], 5)
        with torch.no_grad():
            logits = model(filled(image, gone, "blur"))[0]
        expected = logits[c] - max(logits[k] for k in range(3) if k != c)
        assert rows.without_object[row] == pytest.approx(float(expected), abs=1e-4)
        first, second = sorted(range(3), key=lambda k: -logits[k])[:2]
        assert rows.answer_without_object[row] == first
        assert rows.answer_margin[row] == pytest.approx(float(logits[first] - logits[second]), abs=1e-4)
    assert margins(np.array([[1.0, 1.0]]), np.array([0]), True).tolist() == [0]


def test_only_of_exclusive_targets_one_class_is_the_answer(samples):
    assert np.isnan(samples.regions.answer_without_object).all()
    assert np.isnan(samples.regions.answer_margin).all()


def test_a_table_without_answers_says_so_and_is_completed_by_the_same_command(tmp_path):
    dataset = Squares(9, exclusive=True)
    options = {"without": ["object"], "targets": "exclusive"}
    whole = assess(dataset, tmp_path, **options)
    shards = ShardFolder(tmp_path)

    def as_before(regions):  # as in tables of earlier versions
        lost = np.full(len(regions), np.nan)
        return replace(regions, answer_without_object=lost, answer_margin=lost)

    for number in shards.shards():
        shards.amend(number, as_before(shards.regions(number, None)))
    said = "The table is of an earlier version; the same vice assess completes it."
    earlier = Samples(whole.manifest, whole.images, as_before(whole.regions), whole.maps)
    assert said in " ".join(torchvice.measure(earlier, replicates=0).verdict.caveats)
    found = assess(dataset, tmp_path, **options)
    np.testing.assert_array_equal(found.regions.answer_without_object, whole.regions.answer_without_object)
    np.testing.assert_allclose(Samples.load(tmp_path).regions.answer_margin, whole.regions.answer_margin, atol=1e-6)
    assert said not in " ".join(torchvice.measure(found, replicates=0).verdict.caveats)


def test_the_void_rim_belongs_to_the_object():
    mask = np.zeros((6, 6), np.uint8)
    mask[2:4, 2:4], mask[1, 1:5], mask[5, 5] = 1, 255, 255
    own = Region((6, 6), mask).object_of(0)
    expected = (mask == 1) | (mask == 255)
    expected[5, 5] = False  # void that does not touch it
    np.testing.assert_array_equal(own, expected)
    boxes = Region((6, 6), None, np.array([0, 1, 0]), np.array([[0, 0, 2, 1], [3, 3, 5, 5], [4, 0, 6, 2]]))
    assert boxes.object_of(0).astype(int).tolist()[0] == [1, 1, 0, 0, 1, 1]
    assert boxes.object_of(0).sum() == 2 + 4


def test_a_dataset_without_masks_has_no_columns_and_is_finished(dataset, tmp_path):
    plain = Squares()
    plain.mask = lambda index: None
    samples = assess(plain, tmp_path / "t", without=["object"])
    assert samples.manifest["finished"]
    assert len(samples.regions) == 0


def test_projection_keeps_inner_products():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 500))
    b = 0.8 * a + 0.6 * b
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert float(projected(a) @ projected(b)) == pytest.approx(cosine, abs=0.2)
    assert np.isnan(projected(np.zeros(7))).all()
    np.testing.assert_array_equal(projected(a), projected(3 * a))


def test_read_back(samples, tmp_path):
    copied = replace(samples, manifest={**samples.manifest, "files": {}})
    copied.save(tmp_path / "t")
    np.testing.assert_array_equal(Samples.load(tmp_path / "t").regions.peak_features, samples.regions.peak_features)
