"""Controls, other methods and retests: rows by plain loops, what theory says, and tables that they are added to."""

from __future__ import annotations

import hashlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn

import torchvice
from torchvice import Explainer, Samples, ViceError
from torchvice.assessment import controls
from torchvice.assessment.images import Partners
from torchvice.assessment.randomised import randomised
from torchvice.assessment.region import region_of
from torchvice.assessment.request import Extras
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.data.transforms import normalise
from torchvice.data.warping import warp
from torchvice.explain import normalise as normalise_maps
from torchvice.explain import upsample
from torchvice.metrics.overlap import competing_overlap, own_histograms
from torchvice.metrics.own_map import own_maps

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALSO = ("gradcam", "mirror", "scale0.75", "predicted")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=2, test=9, size=48)
    return VocDataset(root, "test")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


def assess(model, dataset, out, **more):
    options = {"view_size": 64, "crop": 64, "batch_size": 4, "shard_size": 4, "protocols": ("strict",), **more}
    return torchvice.assess(model, dataset, out=out, **{"mean": MEAN, "std": STD, **options})


@pytest.fixture(scope="module")
def samples(model, dataset, tmp_path_factory):
    return assess(model, dataset, tmp_path_factory.mktemp("table") / "t", controls=True, also=ALSO)


def shown(dataset, index, side=64):
    return normalise(warp(dataset.image(index), side), MEAN, STD)[None]


def same(found, expected, names=None):
    """Every explanation has the same rows in both tables, whatever order and files they came in."""
    assert set(found.manifest["explanations"]) == set(expected.manifest["explanations"])
    for name in names or expected.manifest["explanations"]:
        a, b = found.of_explanation(name), expected.of_explanation(name)
        for column in vars(b):
            np.testing.assert_array_equal(getattr(a, column), getattr(b, column), err_msg=f"{name} {column}")
        mine, theirs = (np.sort([hash((i, c)) for i, c in zip(a.image_id, a.label, strict=True)]) for a in (a, b))
        np.testing.assert_array_equal(mine, theirs)


def near(found, expected, pixels=2):
    """Up to two pixels: a float32 rounding that depends on the batch may move one across a threshold.

    Along the border, where resizing repeats a value, it may move a row of them; and between classes many, where both
    maps are at their maximum and tie.
    """
    assert np.abs(np.asarray(found) - expected).max(initial=0) <= pixels


def low_maps(name, model, dataset, index, classes):
    """The low-resolution maps of a control, by the shortest way there is."""
    if name == "random_weights":
        return Explainer(randomised(model))(shown(dataset, index), [classes]).maps
    if name == "random":
        pixels, made = dataset.image(index).tobytes(), []
        for c in classes:
            seed = int.from_bytes(hashlib.sha256(f"0 {c} ".encode() + pixels).digest()[:8], "big") >> 1
            made.append(torch.rand(2, 2, generator=torch.Generator().manual_seed(seed)))
        return torch.stack(made)
    return Explainer(model, name)(shown(dataset, index), [classes]).maps


@pytest.mark.parametrize("name", ["random", "center", "foreground", "random_weights"])
def test_rows_of_a_control_equal_a_plain_loop(samples, model, dataset, name):
    regions = samples.of_explanation(f"strict:{name}")
    assert len(regions) == int(dataset.targets.sum())  # true labels only, no background
    for index, record in enumerate(dataset.records):
        classes, mask = np.flatnonzero(dataset.targets[index]).tolist(), dataset.mask(index)
        low = low_maps(name, model, dataset, index, classes)
        full = normalise_maps(upsample(low.clamp(min=0), mask.shape), "max").numpy()
        mine = regions.where(regions.image_id == record.image_id)
        assert mine.label.tolist() == [c + 1 for c in classes]
        for row, c in enumerate(classes):  # one map at a time: there is no competition
            counts, own = competing_overlap(full[row][None], [c], mask), own_maps(full[row][None], [c], mask)
            place = counts.labels.tolist().index(c + 1)
            assert mine.mask_pixels[row] == counts.mask_pixels[place]
            assert np.abs(mine.predicted[row] - counts.predicted[place]).max() <= 2
            assert np.abs(mine.intersection[row] - counts.intersection[place]).max() <= 2
            np.testing.assert_allclose(mine.pointing[row], own.pointing[0], rtol=1e-6)
            np.testing.assert_allclose(mine.energy_inside[row], own.energy_inside[0], rtol=1e-4)
            assert mine.inside[row].sum() == counts.mask_pixels[place]


def test_shuffled_is_the_headlines_map_on_the_mask_of_another_image(samples, model, dataset):
    regions, headline = samples.of_explanation("strict:shuffled"), samples.of_explanation("strict:cam")
    index_of = {record.image_id: i for i, record in enumerate(dataset.records)}
    holding = {c: [i for i in range(9) if (dataset.mask(i) == c + 1).any()] for c in range(10)}
    alone = [members for members in holding.values() if len(members) == 1]
    assert alone
    assert len(alone) < sum(map(bool, holding.values()))  # the fixture has both
    assert samples.manifest["without_row"] == {"strict:shuffled": len(alone)}
    for c, members in holding.items():
        mine = regions.where(regions.label == c + 1)
        assert sorted(index_of[name] for name in mine.image_id) == (members if len(members) > 1 else [])
        chosen = []
        for row, image_id in enumerate(mine.image_id.tolist()):
            i = index_of[image_id]
            low = Explainer(model)(shown(dataset, i), [[c]]).maps.clamp(min=0)
            fitting = []
            for j in members:
                mask = dataset.mask(j)
                counts = competing_overlap(normalise_maps(upsample(low, mask.shape), "max").numpy(), [c], mask)
                place = counts.labels.tolist().index(c + 1)
                near = np.abs(counts.intersection[place] - mine.intersection[row]).max() <= 2
                fitting += [j] if near and counts.mask_pixels[place] == mine.mask_pixels[row] else []
            assert set(fitting) - {i}
            chosen.append(fitting)
            assert mine.status[row] == headline.status[(headline.image_id == image_id) & (headline.label == c + 1)]
        own = headline.where(headline.label == c + 1)
        if len(members) > 1:  # every mask serves once
            assert sorted(mine.mask_pixels) == sorted(own.mask_pixels[own.mask_pixels > 0])


class Masks:
    """Images of one class whose masks are numbered; of some the mask is absent or holds nothing."""

    def __init__(self, count, absent=(), empty=()):
        self.targets, self.classes = np.ones((count, 1), np.uint8), ("one",)
        self.records = [SimpleNamespace(image_id=f"m{i}") for i in range(count)]
        self.count, self.absent, self.empty = count, absent, empty

    def mask(self, i):
        return None if i in self.absent else np.array([[0 if i in self.empty else 1, *[0] * i]])


@pytest.mark.parametrize("seed", range(5))
def test_partners_are_a_derangement(seed):
    data = Masks(12, absent=(3, 7), empty=(0, 11))
    partners = Partners(data, seed)
    given = {i: partners.regions(i, region_of(data, i)) for i in range(12) if data.mask(i) is not None}
    partner = {i: found[0].size[1] - 1 for i, found in given.items() if found}
    there = sorted(set(range(12)) - {0, 3, 7, 11})
    assert sorted(partner) == sorted(partner.values()) == there
    assert all(i != j for i, j in partner.items())
    assert partner == {i: Partners(data, seed).regions(i, region_of(data, i))[0].size[1] - 1 for i in reversed(there)}


def test_partners_differ_by_seed_and_a_lone_image_has_none():
    data = Masks(20)
    regions = [region_of(data, i) for i in range(20)]
    orders = {tuple(Partners(data, s).regions(i, r)[0].size[1] for i, r in enumerate(regions)) for s in range(4)}
    assert len(orders) == 4
    lone = Masks(4, absent=(0, 1, 2))
    assert Partners(lone).regions(3, region_of(lone, 3)) == {}


def test_foreground_scores_the_area_share_at_every_threshold(samples):
    regions, headline = samples.of_explanation("strict:foreground"), samples.of_explanation("strict:cam")
    assert set(regions.status) == {"constant"}
    for row in range(len(regions)):
        counted = headline.mask_pixels[headline.image_id == regions.image_id[row]].sum()  # what is not void
        share = regions.mask_pixels[row] / counted
        union = regions.predicted[row] + regions.mask_pixels[row] - regions.intersection[row]
        np.testing.assert_allclose(regions.intersection[row] / union, share)
        assert regions.pointing[row] == pytest.approx(share)
        inside, outside = regions.energy_inside[row], regions.energy_outside[row]
        assert inside / (inside + outside) == pytest.approx(share)


class Cells:
    """200 images of noise, 32 x 32, whose object is the same 16 of the 64 cells of an 8 x 8 map."""

    def __init__(self, count=200):
        self.classes, self.targets = ("cell",), np.ones((count, 1), np.uint8)
        self.records = [type("Record", (), {"image_id": f"{i:03d}"}) for i in range(count)]
        cells = np.random.default_rng(1).permutation(np.arange(64) < 16).reshape(8, 8)
        self._mask = np.kron(cells, np.ones((4, 4), int))

    def image(self, i):
        return np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def mask(self, i):
        return self._mask


def coarse():
    """A network whose map is 8 x 8."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))


def test_random_maps_find_the_object_by_chance(tmp_path):
    controls = ["random", "center"]
    found = assess(
        coarse(), Cells(), tmp_path, controls=controls, view_size=32, outputs="logits", batch_size=64, shard_size=200
    )
    regions = found.of_explanation("strict:random")
    # The highest place is any of 64 cells, of which 16 are the object's: 0.25, with a deviation of 0.433 / 14 over 200.
    assert regions.pointing.mean() == pytest.approx(0.25, abs=4 * 0.031)
    share = regions.energy_inside / (regions.energy_inside + regions.energy_outside)
    assert share.mean() == pytest.approx(0.25, abs=0.02)
    center = found.of_explanation("strict:center")
    # Above t lies an ellipse of 2 pi sigma^2 ln(1 / t) of the area, sigma = 1/4: at t = 0.5 that is 0.272. The peak of
    # 8 x 8 places is beside the middle, at exp(-1/16), and the map is divided by it.
    expected = 2 * np.pi / 16 * (np.log(1 / 0.5) + 1 / 16)
    assert center.predicted[0, 50] / 32**2 == pytest.approx(expected, rel=0.1)
    assert len(np.unique(center.predicted, axis=0)) == 1  # it knows nothing of the image
    assert len(np.unique(regions.predicted, axis=0)) > 190


def test_retests_methods_and_labels_equal_a_plain_loop(samples, model, dataset):
    roles = {name: settings["role"] for name, settings in samples.manifest["explanations"].items()}
    assert roles == {
        "strict:cam": "headline",
        **{f"strict:{name}": "control" for name in controls.CONTROLS},
        "strict:gradcam": "method",
        "strict:mirror": "retest",
        "strict:scale0.75": "retest",
        "strict:predicted": "labels",
    }
    assert samples.manifest["protocols"]["strict"]["explanation"] == "strict:cam"
    for index, record in enumerate(dataset.records):
        true, mask = np.flatnonzero(dataset.targets[index]).tolist(), dataset.mask(index)
        x = shown(dataset, index)
        with torch.no_grad():
            said = torch.nonzero(model(x)[0] > 0).flatten().tolist()
        expected = {
            "gradcam": (true, Explainer(model, "gradcam")(x, [true]).maps),
            "mirror": (true, Explainer(model)(x.flip(-1), [true]).maps.flip(-1)),
            "scale0.75": (true, Explainer(model)(shown(dataset, index, 48), [true]).maps),
            "predicted": (said, Explainer(model)(x, [said]).maps),
        }
        for name, (classes, low) in expected.items():
            regions = samples.of_explanation(f"strict:{name}")
            mine = regions.where(regions.image_id == record.image_id)
            full = normalise_maps(upsample(low.clamp(min=0), mask.shape), "max").numpy()
            counts = competing_overlap(full, classes, mask)
            assert mine.label.tolist() == counts.labels.tolist(), name
            near(mine.predicted[0], counts.predicted[0])
            near(mine.intersection[0], counts.intersection[0])
            inside, outside = own_histograms(full, classes, mask)
            explained = mine.where(mine.status != "none")
            order = np.argsort(classes)
            near(explained.inside.cumsum(1), inside[order].cumsum(1), 64)
            near(explained.outside.cumsum(1), outside[order].cumsum(1), 64)
            here = (samples.maps.image_id == record.image_id) & (samples.maps.explanation == f"strict:{name}")
            np.testing.assert_allclose(np.stack([*samples.maps.map[here], low[0] * 0])[:-1], low, rtol=2e-3, atol=1e-3)


def test_the_manifest_names_every_layer_that_a_map_is_made_of(model, dataset, tmp_path):
    kept = assess(model, dataset, tmp_path / "t", also="refinecam").manifest["explanations"]
    assert kept["strict:refinecam"]["stages"] == ["layer2", "layer3", "global_pool"]
    assert "stages" not in kept["strict:cam"]
    assert assess(model, dataset, tmp_path / "t", also="refinecam").manifest["explanations"] == kept  # it resumes


def test_a_single_text_is_one_name(model, dataset, tmp_path):
    one = assess(model, dataset, tmp_path / "t", protocols="strict", controls="random", also="layercam")
    assert list(one.manifest["protocols"]) == ["strict"]
    assert [*one.manifest["explanations"]] == ["strict:cam", "strict:random", "strict:layercam"]
    assert Extras.of("cheap").controls == controls.CONTROL_SETS["cheap"]
    assert Extras.of("none").controls == Extras.of(False).controls == ()
    assert Extras.of("all") == Extras.of(True)
    with pytest.raises(ViceError, match="`protocols` must be 'paper', 'strict' or both, but is 'stric'"):
        assess(model, dataset, tmp_path / "u", protocols="stric")
    with pytest.raises(ViceError, match="but is 'centre'"):
        assess(model, dataset, tmp_path / "u", controls="centre")
    assert repr(Explainer(model, "gradcam", layers="layer3")) == repr(Explainer(model, "gradcam", layers=["layer3"]))


def test_batches_and_shards_change_nothing(samples, model, dataset, tmp_path):
    found = assess(model, dataset, tmp_path, controls=True, also=ALSO, batch_size=1, shard_size=2)
    same(found, samples, ["strict:random", "strict:center", "strict:foreground"])
    for name in samples.manifest["explanations"]:
        a, b = found.of_explanation(name), samples.of_explanation(name)
        assert a.mask_pixels.tolist() == b.mask_pixels.tolist()
        alone = (a.label == 0) | (samples.manifest["explanations"][name]["role"] == "control")
        near(a.predicted[alone], b.predicted[alone])
        near(a.inside.cumsum(1), b.inside.cumsum(1), 64)


def test_explanations_are_added_to_a_finished_table(samples, model, dataset, tmp_path):
    before = assess(model, dataset, tmp_path)
    assert list(before.manifest["explanations"]) == ["strict:cam"]
    images = {path.name: path.read_bytes() for path in tmp_path.glob("images-*")}
    found = assess(model, dataset, tmp_path, controls=True, also=ALSO)
    same(found, samples, set(samples.manifest["explanations"]) - {"strict:shuffled"})
    same(Samples.load(tmp_path), found)
    a, b = found.of_explanation("strict:shuffled"), samples.of_explanation("strict:shuffled")
    assert np.abs(a.intersection - b.intersection).max() <= 2
    assert found.manifest["without_row"] == samples.manifest["without_row"]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("images-*")} == images
    assert torchvice.measure(found).to_json()["strict"] == torchvice.measure(before).to_json()["strict"]
    # Nothing is done twice; a call that asks for less finds its table there.
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    told = []
    again = assess(model, dataset, tmp_path, also=["mirror"], progress=lambda *done: told.append(done))
    assert told == [(18, 18)]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == files
    same(again, found)


class Interrupted(Exception):
    pass


def stopping(at):
    def stop(done, total):
        if done >= at:
            raise Interrupted

    return stop


def test_a_kill_while_adding_leaves_the_table_as_it_was(model, dataset, tmp_path):
    before = assess(model, dataset, tmp_path / "a")
    whole = assess(model, dataset, tmp_path / "b", also=["gradcam", "mirror"])
    with pytest.raises(Interrupted):  # in the second shard of three: 9 are done, then 4 of each, then one
        assess(model, dataset, tmp_path / "a", also=["gradcam", "mirror"], progress=stopping(18))
    same(Samples.load(tmp_path / "a"), before)
    done = sorted(path.name for path in (tmp_path / "a").glob("regions-*-*"))
    assert done == ["regions-00000-strict-gradcam.parquet", "regions-00000-strict-mirror.parquet"]
    stamps = [(tmp_path / "a" / name).stat().st_mtime_ns for name in done]
    same(assess(model, dataset, tmp_path / "a"), before)  # another call leaves it in waiting
    told = []
    found = assess(model, dataset, tmp_path / "a", also=["gradcam", "mirror"], progress=lambda *done: told.append(done))
    assert told[0] == (17, 27)
    assert [(tmp_path / "a" / name).stat().st_mtime_ns for name in done] == stamps
    same(found, whole)


def test_a_killed_run_with_controls_goes_on(samples, model, dataset, tmp_path):
    asked = {"controls": True, "also": ALSO}
    with pytest.raises(Interrupted):
        assess(model, dataset, tmp_path, **asked, progress=stopping(45))
    assert len(list(tmp_path.glob("images-*"))) == 1
    with pytest.raises(ViceError, match=r"needs `strict:center`, .*`strict:gradcam`") as error:
        assess(model, dataset, tmp_path)
    assert "Request it again" in error.value.way_out
    same(assess(model, dataset, tmp_path, **asked), samples)


def test_a_killed_run_takes_more_on_its_way(samples, model, dataset, tmp_path):
    with pytest.raises(Interrupted):
        assess(model, dataset, tmp_path, also=["gradcam"], progress=stopping(10))
    found = assess(model, dataset, tmp_path, also=["gradcam", "mirror"])
    assert found.manifest["added"] == ["strict:mirror"]
    for name in ("strict:cam", "strict:gradcam", "strict:mirror"):
        np.testing.assert_array_equal(found.of_explanation(name).predicted, samples.of_explanation(name).predicted)


def test_a_shard_that_is_deleted_is_made_anew_with_what_was_added(model, dataset, tmp_path):
    assess(model, dataset, tmp_path)
    whole = assess(model, dataset, tmp_path, also=["mirror"])
    for number in (2, 0):
        (tmp_path / f"images-{number:05d}.parquet").unlink()
        with pytest.raises(ViceError, match="needs `strict:mirror`, but"):
            assess(model, dataset, tmp_path)
        same(assess(model, dataset, tmp_path, also=["mirror"]), whole)
    damaged = next(tmp_path.glob("regions-*-strict-mirror.parquet"))
    damaged.write_bytes(b"half")
    with pytest.raises(ViceError, match="must be readable") as error:
        Samples.load(tmp_path)
    assert error.value.way_out.startswith(f"Delete {damaged.name} and run vice assess again, asking for mirror")
    damaged.unlink()
    same(assess(model, dataset, tmp_path, also=["mirror"]), whole)


def test_other_settings_under_the_same_id_are_refused(model, dataset, tmp_path, monkeypatch):
    assess(model, dataset, tmp_path, controls=["random"])
    monkeypatch.setattr(controls, "SEED", 1)
    with pytest.raises(ViceError, match=r"`seed` of the explanation `strict:random` is 0 in the table, but 1 now"):
        assess(model, dataset, tmp_path, controls=["random"])


def test_images_without_a_mask_have_no_rows(model, dataset, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(dataset.root, root)
    missing = dataset.records[2].image_id
    for mask in root.glob(f"VOC2012/Segmentation*/{missing}.png"):
        mask.unlink()
    found = assess(model, VocDataset(root, "test"), tmp_path / "t", controls=True, also=ALSO)
    assert len(found.images) == 9
    assert missing not in found.regions.image_id
    added = assess(model, VocDataset(root, "test"), tmp_path / "u")
    added = assess(model, VocDataset(root, "test"), tmp_path / "u", controls=True, also=ALSO)
    same(added, found, ["strict:random", "strict:center", "strict:predicted"])


def test_what_cannot_be_asked_for(model, dataset, tmp_path):
    for more, said in (
        ({"controls": ["randm"]}, "A control must be one of random, center"),
        ({"also": ["gradcm"]}, "Did you mean `gradcam`"),
        ({"also": ["random"]}, "'random' is a control"),
        ({"also": ["scale0"]}, "`also` must name"),
        ({"also": ["rollout"]}, "must attend globally"),
        ({"method": "random", "controls": True}, "is the headline, and cannot be a control"),
        ({"protocols": ("paper",), "controls": True}, "need the view of `strict`"),
    ):
        with pytest.raises(ViceError, match=said):
            assess(model, dataset, tmp_path, **more)
    assert not list(tmp_path.glob("*.parquet"))
    assert list(assess(model, dataset, tmp_path, also=["cam"]).manifest["explanations"]) == ["strict:cam"]


def test_an_id_that_comes_twice_is_told_at_the_start(model, tmp_path):
    data = Cells(3)
    data.records[2] = data.records[0]
    with pytest.raises(ViceError, match="must be unique, but the dataset has `000` more than once"):
        assess(coarse(), data, tmp_path)
    data.records[2] = type("Record", (), {"image_id": "a\udcff"})
    with pytest.raises(ViceError, match="must be UTF-8"):
        assess(coarse(), data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_random_weights_forget_everything_and_give_everything_back():
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3)
    model.extra = nn.MultiheadAttention(8, 2)
    model.norm.running_mean = torch.zeros(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    one, again, other = randomised(model, 3), randomised(model, 3), randomised(model, 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in one.state_dict().items())
    for name in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight", "pos_embed"):
        assert not torch.equal(one.state_dict()[name], before[name]), name
        assert not torch.equal(one.state_dict()[name], other.state_dict()[name]), name
    # Nothing resets these: their entries are shuffled.
    for name in ("pos_embed", "extra.in_proj_weight"):
        a, b = one.state_dict()[name], before[name]
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values), name
        assert (a != b).float().mean() > 0.5, name


def test_a_batch_norm_forgets_its_statistics():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    model[1].running_var.fill_(7)
    assert randomised(model)[1].running_var.tolist() == [1, 1]
    assert model[1].running_var.tolist() == [7, 7]


def test_random_weights_are_counted_without_the_models_training(samples, model, dataset):
    regions, headline = samples.of_explanation("strict:random_weights"), samples.of_explanation("strict:cam")
    assert samples.manifest["explanations"]["strict:random_weights"]["weights_seed"] == 0
    both = {(i, c) for i, c, s in zip(headline.image_id, headline.label, headline.status, strict=True) if s != "none"}
    assert set(zip(regions.image_id.tolist(), regions.label.tolist(), strict=True)) == both


def test_the_manifest_is_plain(samples):
    json.dumps(dict(samples.manifest))
    assert samples.manifest["explanations"]["strict:foreground"]["normalisation"] == "none"
    assert samples.manifest["explanations"]["strict:scale0.75"]["scales"] == [0.75]
    assert samples.manifest["explanations"]["strict:predicted"]["labels"] == "predicted"
