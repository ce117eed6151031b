"""Boxes and faithfulness in the table: by plain loops on real small files, at once, later, and after a kill."""

import shutil

import numpy as np
import pytest
import torch

import torchvice
from small_networks import moving_resnet
from torchvice import Explainer, Samples, ViceError
from torchvice.assessment.region import Region
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.explain import FaithfulnessChoices, MapRequest, faithfulness, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.metrics.boxes import best_box_iou, box_planes
from torchvice.metrics.overlap import competing_overlap, own_histograms
from torchvice.samples import FAITHFULNESS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHOICES = FaithfulnessChoices(steps=4, shares=(0.5,), orders=2)


def object_boxes(dataset, i):
    """A box around each class's mask, as VOC writes it, and a second one in the corner: they may overlap."""
    mask = dataset.mask(i)
    found = []
    for c in np.flatnonzero(dataset.targets[i]).tolist():
        ys, xs = np.nonzero(mask == c + 1)
        if len(ys):
            found.append((c, (xs.min() + 1, ys.min() + 1, xs.max() + 1, ys.max() + 1)))
            found.append((c, (1, 1, 9, 12)))
    return found


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=2, test=7, size=48)
    dataset = VocDataset(root, "test")
    folder = dataset._layout.base / "Annotations"
    folder.mkdir(exist_ok=True)
    for i, record in enumerate(dataset.records[:-1]):
        objects = "".join(
            f"<object><name>{dataset.classes[c]}</name><bndbox>"
            + "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            + "</bndbox></object>"
            for c, box in object_boxes(dataset, i)
        )
        (folder / f"{record.image_id}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


@pytest.fixture(scope="module")
def model():
    return moving_resnet()


def assess(model, root, out, **more):
    options = {"view_size": 64, "crop": 64, "batch_size": 4, "shard_size": 3, "protocols": ("strict",), **more}
    dataset = options.pop("dataset", None) or VocDataset(root, "test")
    return torchvice.assess(model, dataset, out=out, **{"mean": MEAN, "std": STD, **options})


def full_maps(model, dataset, i):
    """The maps of strict at the size of the image, and at that of the view."""
    classes = np.flatnonzero(dataset.targets[i]).tolist()
    image = dataset.image(i)
    x = normalise(warp(image, 64), MEAN, STD)[None]
    low = Explainer(model)(x, [classes]).maps.clamp(min=0)
    return classes, *(normalise_maps(upsample(low, size), "max") for size in (image.shape[:2], (64, 64))), x, low


@pytest.fixture(scope="module")
def boxed(model, digits, tmp_path_factory):
    dataset = VocDataset(digits, "test", regions="boxes")
    return assess(model, digits, tmp_path_factory.mktemp("boxed") / "t", dataset=dataset, controls=True)


# ---- boxes


def test_box_iou_is_that_of_the_class_and_its_boxes(model, digits, tmp_path):
    found = assess(model, digits, tmp_path, controls=("center", "shuffled"))
    assert found.manifest["dataset"]["regions"] == "masks"
    dataset = VocDataset(digits, "test")
    headline = found.of_explanation("strict:cam")
    assert headline.box_iou.shape == (len(headline), 60)
    for i, record in enumerate(dataset.records):
        classes, full, *_ = full_maps(model, dataset, i)
        known = dataset.boxes(i)
        for row in np.flatnonzero(headline.image_id == record.image_id):
            c = headline.label[row] - 1
            if c not in classes or known is None:
                assert np.isnan(headline.box_iou[row]).all()
                continue
            expected = best_box_iou(full[classes.index(c)].numpy(), known[1][known[0] == c])
            np.testing.assert_allclose(headline.box_iou[row], expected, atol=0.03)
    center = found.of_explanation("strict:center")
    assert np.isfinite(center.box_iou[center.image_id != dataset.records[-1].image_id]).all()
    assert (np.nanmax(headline.box_iou, axis=1, initial=0, where=~np.isnan(headline.box_iou)) > 0).any()


def test_boxes_in_place_of_masks(boxed, model, digits):
    assert boxed.manifest["dataset"]["regions"] == "boxes"
    dataset = VocDataset(digits, "test")
    regions, images = boxed.of_explanation("strict:cam"), boxed.of_view("warp64")
    assert images.has_mask.tolist() == [dataset.boxes(i) is not None for i in range(7)]
    for i, record in enumerate(dataset.records[:-1]):
        classes, full, *_ = full_maps(model, dataset, i)
        owners, boxes = dataset.boxes(i)
        planes = box_planes(owners, boxes, full.shape[1:], 10)
        counts = competing_overlap(full.numpy(), classes, planes)
        mine = regions.where(regions.image_id == record.image_id)
        assert mine.label.tolist() == counts.labels.tolist()
        assert mine.mask_pixels.tolist() == counts.mask_pixels.tolist()
        assert np.abs(mine.predicted - counts.predicted).max() <= 3
        assert np.abs(mine.intersection - counts.intersection).max() <= 3
        inside, _ = own_histograms(full.numpy(), classes, planes)
        assert np.abs(mine.inside[1:] - inside).sum() <= 6


def test_everything_is_measured_of_boxes(boxed):
    content = torchvice.measure(boxed).to_json()
    assert content["strict"]["ji"] is not None
    assert content["strict"]["vice"] is not None
    shuffled = boxed.of_explanation("strict:shuffled")
    assert len(shuffled)
    assert (shuffled.mask_pixels > 0).all()


def test_a_region_counts_as_its_planes_do():
    rng = np.random.default_rng(0)
    owners, boxes = np.array([4, 7, 4]), np.array([[0, 0, 5, 4], [3, 2, 9, 8], [6, 6, 8, 8]])
    region, planes = Region((8, 9), None, owners, boxes), box_planes(owners, boxes, (8, 9), 10)
    maps, classes = rng.random((2, 8, 9)), [7, 2]
    places, compact, label_of = region.against(classes)
    assert len(compact) == 3
    mine, whole = competing_overlap(maps, places, compact), competing_overlap(maps, classes, planes)
    assert label_of[mine.labels].tolist() == whole.labels.tolist()
    for name in ("mask_pixels", "predicted", "intersection"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(whole, name))
    assert region.holds(4)
    assert not region.holds(2)
    assert region.boxes_of(4).tolist() == boxes[[0, 2]].tolist()
    assert region.boxes_of(2).shape == (0, 4)
    assert Region((8, 9), np.zeros((8, 9), np.uint8)).boxes_of(4) is None


def test_a_damaged_annotation_is_named(model, digits, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(digits, root)
    file = next((VocDataset(root, "test")._layout.base / "Annotations").glob("*.xml"))
    file.write_text("<annotation><object>")
    with pytest.raises(ViceError, match=file.name):
        assess(model, root, tmp_path / "t")


# ---- faithfulness


@pytest.fixture(scope="module")
def faithful(model, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faithful") / "t"
    return assess(
        model,
        digits,
        folder,
        protocols=("paper", "strict"),
        faithfulness=CHOICES,
        also=["gradcam"],
        controls=["center"],
    )


def test_the_columns_are_those_of_the_maps_on_their_view(faithful, model, digits):
    dataset, regions = VocDataset(digits, "test"), faithful.of_explanation("strict:cam")
    explainer = Explainer(model)
    for i, record in enumerate(dataset.records):
        classes, _, full, x, low = full_maps(model, dataset, i)
        asked = [MapRequest(0, c, full[row], tuple(low.shape[1:])) for row, c in enumerate(classes)]
        expected = faithfulness(explainer.logits, x, asked, CHOICES)
        for row, c in enumerate(classes):
            mine = regions.where((regions.image_id == record.image_id) & (regions.label == c + 1))
            for name in FAITHFULNESS:
                assert getattr(mine, name)[0] == pytest.approx(getattr(expected, name)[row], abs=0.02), name


def test_who_has_it_and_who_has_not(faithful):
    regions = faithful.regions
    has = np.isfinite(np.stack([getattr(regions, name) for name in FAITHFULNESS]))
    asked = np.isin(regions.explanation.astype(str), ["strict:cam", "strict:gradcam"]) & (regions.status != "none")
    assert has[:, asked].all()
    assert not has[:, ~asked].any()
    settings = faithful.manifest["explanations"]
    assert settings["strict:cam"]["faithfulness"] == CHOICES.to_dict()
    assert "faithfulness" not in settings["paper:cam"]
    assert "faithfulness" not in settings["strict:center"]
    # Of one grid, the random orders are the same.
    cam, gradcam = (faithful.of_explanation(f"strict:{name}") for name in ("cam", "gradcam"))
    np.testing.assert_allclose(cam.road_random, gradcam.road_random, atol=1e-5)


class Interrupted(Exception):
    pass


def test_it_can_be_asked_for_later_and_a_kill_loses_a_shard_at_most(faithful, model, digits, tmp_path):
    more = {"protocols": ("paper", "strict"), "also": ["gradcam"], "controls": ["center"]}
    bare = assess(model, digits, tmp_path, **more)
    assert np.isnan(bare.regions.p_full).all()

    def stop(done, total):
        seen.append((done, total))
        if len(seen) == 6:  # in the first shard, whose `cam` is written and whose `gradcam` is under way
            raise Interrupted

    seen = []
    with pytest.raises(Interrupted):
        assess(model, digits, tmp_path, faithfulness=CHOICES, progress=stop, **more)
    first = Samples.load(tmp_path).of_explanation("strict:cam").p_full
    assert 0 < np.isfinite(first).sum() < len(first)
    with pytest.raises(ViceError, match="faithfulness of `strict:cam`, `strict:gradcam`, but this request lacks it"):
        assess(model, digits, tmp_path, **more)
    seen = []
    later = assess(model, digits, tmp_path, faithfulness=CHOICES, progress=lambda *step: seen.append(step), **more)
    assert seen[-1][0] == seen[-1][1]
    for name, settings in faithful.manifest["explanations"].items():
        assert later.manifest["explanations"][name] == settings
        mine, theirs = later.of_explanation(name), faithful.of_explanation(name)
        for column in FAITHFULNESS:
            np.testing.assert_allclose(getattr(mine, column), getattr(theirs, column), atol=1e-5)
        np.testing.assert_array_equal(mine.intersection, theirs.intersection)
    again = assess(model, digits, tmp_path, **more)  # a whole table needs nothing asked again, and loses nothing
    np.testing.assert_array_equal(again.regions.p_full, later.regions.p_full)
    other = FaithfulnessChoices(("deletion",))
    said = r"`measures` of `faithfulness` of the explanation `strict:cam` is .* in the table, but \['deletion'\] now"
    with pytest.raises(ViceError, match=said):
        assess(model, digits, tmp_path, faithfulness=other, **more)
    assert len(Samples.load(tmp_path).regions) == len(later.regions)


def test_a_run_that_was_killed_goes_on_with_it(model, digits, tmp_path):
    def stop(done, total):
        if done >= 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        assess(model, digits, tmp_path, faithfulness=CHOICES, progress=stop)
    with pytest.raises(ViceError, match="faithfulness of `strict:cam`"):
        assess(model, digits, tmp_path)
    found = assess(model, digits, tmp_path, faithfulness=CHOICES)
    assert np.isfinite(found.regions.p_full[found.regions.status != "none"]).all()


def test_exclusive_targets_take_a_softmax(model, digits, tmp_path):
    dataset = VocDataset(digits, "test")
    dataset.targets = np.eye(10, dtype=np.uint8)[dataset.targets.argmax(1)]
    found = assess(
        model,
        digits,
        tmp_path,
        dataset=dataset,
        targets="exclusive",
        faithfulness=FaithfulnessChoices(("deletion",), steps=2),
    )
    images, regions = found.of_view("warp64"), found.of_explanation("strict:cam")
    for image_id, logits, truth in zip(images.image_id, images.logits, images.targets, strict=True):
        c = int(truth.argmax())
        mine = regions.where((regions.image_id == image_id) & (regions.label == c + 1))
        assert mine.p_full[0] == pytest.approx(float(torch.tensor(logits).softmax(0)[c]), abs=1e-4)
    assert np.isnan(regions.road).all()


@pytest.mark.parametrize("choices", [{"view": "whole", "mirror": True}, {"view": "crop"}, {"scales": (0.5, 1.0)}])
def test_every_view_shows_its_own_pixels(model, digits, tmp_path, choices):
    chosen = torchvice.explain.Choices(**choices)
    found = assess(model, digits, tmp_path, choices=chosen, faithfulness=FaithfulnessChoices(("deletion",), steps=2))
    images = found.of_view(next(iter(set(found.images.view))))
    regions = found.of_explanation("strict:cam")
    for image_id, label, p in zip(regions.image_id, regions.label, regions.p_full, strict=True):
        logits = images.logits[images.image_id == image_id][0]
        if label and not np.isnan(p):
            assert p == pytest.approx(1 / (1 + np.exp(-logits[label - 1])), abs=1e-4)
    assert np.isfinite(regions.p_full).sum() > 7


def test_it_is_asked_of_strict_alone(model, digits, tmp_path):
    with pytest.raises(ViceError, match="`strict` is not assessed"):
        assess(model, digits, tmp_path, protocols=("paper",), faithfulness=["road"])
    with pytest.raises(ViceError, match="Did you mean `insertion`"):
        assess(model, digits, tmp_path, faithfulness=["insert"])
