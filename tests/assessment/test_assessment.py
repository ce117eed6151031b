"""assess on real small files: every number of the table by a plain loop, kills, resumes, foreign checkpoints."""

import importlib.metadata
import json
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import timm
import torch
import yaml

import torchvice
from torchvice import Explainer, Samples, ViceError, files
from torchvice.assessment import MapSettings
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.data.transforms import center_crop, normalise
from torchvice.data.warping import warp
from torchvice.explain import Choices, upsample
from torchvice.explain import normalise as normalise_maps
from torchvice.metrics import sample_loss
from torchvice.metrics.overlap import competing_overlap
from torchvice.metrics.own_map import own_maps
from torchvice.models.families import MapSite
from torchvice.runs.class_maps import read_class_map
from torchvice.runs.subject import subject_from_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=2, test=9, size=48)
    return root


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).eval()


def assess(model, digits, out, **more):
    options = {"view_size": 64, "crop": 64, "batch_size": 4, "shard_size": 4}
    options |= {"mean": MEAN, "std": STD, **more}
    return torchvice.assess(model, VocDataset(digits, "test"), out=out, **options)


@pytest.fixture(scope="module")
def samples(model, digits, tmp_path_factory):
    return assess(model, digits, tmp_path_factory.mktemp("table") / "t")


def test_strict_rows_equal_a_plain_loop(samples, model, digits):
    dataset = VocDataset(digits, "test")
    images, regions = samples.of_view("warp64"), samples.of_explanation("strict:cam")
    for row, record in enumerate(dataset.records):
        classes = np.flatnonzero(dataset.targets[row])
        x = normalise(warp(dataset.image(row), 64), MEAN, STD)[None]
        with torch.no_grad():
            logits = model(x)
        np.testing.assert_allclose(images.logits[row], logits[0], atol=1e-5)
        assert images.loss[row] == pytest.approx(sample_loss(logits, dataset.targets[row][None])[0], abs=1e-5)
        mask = dataset.mask(row)
        low = Explainer(model)(x, [classes.tolist()]).maps
        full = normalise_maps(upsample(low.clamp(min=0), mask.shape), "max").numpy()
        counts = competing_overlap(full, classes, mask)
        mine = regions.where(regions.image_id == record.image_id)
        assert mine.label.tolist() == counts.labels.tolist()
        assert mine.mask_pixels.tolist() == counts.mask_pixels.tolist()
        own, shown = own_maps(full, classes, mask), mine.status != "none"
        for name, column in vars(own).items():
            assert np.isnan(getattr(mine, name)[~shown]).all()
            # One pixel may cross Otsu's threshold, as below; energies are sums of thousands of pixels.
            np.testing.assert_allclose(getattr(mine, name)[shown], column, rtol=1e-4, atol=2 * name.startswith("otsu"))
        # A float32 rounding that depends on the batch may move a pixel across a threshold.
        assert np.abs(mine.predicted - counts.predicted).max() <= 2
        assert np.abs(mine.intersection - counts.intersection).max() <= 2
        inside = (mask == classes[0] + 1).sum()
        assert mine.inside[mine.label == classes[0] + 1].sum() == inside
        both = (mine.inside + mine.outside).sum(1)
        assert set(both[mine.status != "none"]) == {(mask != 255).sum()}


def test_paper_rows_equal_the_published_recipe(samples, model, digits):
    dataset = VocDataset(digits, "test")
    images, regions = samples.of_view("crop64"), samples.of_explanation("paper:cam")
    for row, record in enumerate(dataset.records):
        x = normalise(dataset.image(row), MEAN, STD)
        with torch.no_grad():
            np.testing.assert_allclose(images.logits[row], model(center_crop(x, 64)[None])[0], atol=1e-5)
        classes = np.flatnonzero(dataset.targets[row])
        total = 0
        for flip in (False, True):
            features = model.forward_features((x.flip(-1) if flip else x)[None])
            low = torch.relu(torch.einsum("cd,dhw->chw", model.fc.weight[classes], features[0])).detach()
            full = upsample(low, x.shape[1:])
            total = total + (full.flip(-1) if flip else full)
        counts = competing_overlap(normalise_maps(total, "paper").numpy(), classes, dataset.mask(row))
        mine = regions.where(regions.image_id == record.image_id)
        assert np.abs(mine.predicted - counts.predicted).max() <= 2
        assert np.abs(mine.intersection - counts.intersection).max() <= 2


def test_the_stored_maps_are_the_low_resolution_ones(samples, model, digits):
    dataset = VocDataset(digits, "test")
    classes = np.flatnonzero(dataset.targets[0])
    low = Explainer(model)(normalise(warp(dataset.image(0), 64), MEAN, STD)[None], [classes.tolist()]).maps
    here = (samples.maps.image_id == dataset.records[0].image_id) & (samples.maps.explanation == "strict:cam")
    stored = np.stack(samples.maps.map[here])
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, low, rtol=2e-3, atol=1e-3)


def test_the_manifest_says_what_made_it(samples):
    manifest = samples.manifest
    assert manifest["finished"]
    assert manifest["classes"][7] == "seven"
    assert len(manifest["model"]["weights_sha256"]) == 64
    assert manifest["explanations"]["strict:cam"]["site"]["layer"] == "global_pool"
    contents = manifest["contents"]
    assert set(contents) == {"ids", "targets", "images", "masks"}
    assert manifest["dataset"] | {"root": ""} == {
        "root": "",
        "split": "test",
        "labels": "cls_labels.npy",
        "images": 9,
        "regions": "masks",
    }


class Interrupted(Exception):
    pass


def test_a_killed_run_goes_on_and_gives_the_same_table(model, digits, tmp_path, samples):
    def stop(done, total):
        if done >= 10:  # in the second shard
            raise Interrupted

    with pytest.raises(Interrupted):
        assess(model, digits, tmp_path, progress=stop)
    assert sorted(path.name for path in tmp_path.glob("images-*")) == ["images-00000.parquet"]
    assert not list(tmp_path.glob(".*"))  # nothing half-written
    first = (tmp_path / "images-00000.parquet").read_bytes()
    again = assess(model, digits, tmp_path)
    assert (tmp_path / "images-00000.parquet").read_bytes() == first
    assert torchvice.measure(again).to_json()["paper"] == torchvice.measure(samples).to_json()["paper"]
    np.testing.assert_array_equal(again.of_view("warp64").logits, samples.of_view("warp64").logits)


def test_a_run_that_finished_nothing_leaves_the_folder_free(model, digits, tmp_path):
    vit = timm.create_model("test_vit", num_classes=10)
    with pytest.raises(ViceError, match="must accept"):
        assess(vit, digits, tmp_path, protocols=("strict",), view_size=50)
    assert len(assess(model, digits, tmp_path).images) == 18


def test_a_folder_of_another_assessment_is_refused(model, digits, tmp_path):
    assess(model, digits, tmp_path)
    with pytest.raises(ViceError, match=r"other settings: `view_size` is 64 in the table, but 48 now\."):
        assess(model, digits, tmp_path, view_size=48)
    with pytest.raises(ViceError, match=r"`mean` is \[0\.485, .*\] in the table, but \[0\.5, 0\.5, 0\.5\] now\."):
        assess(model, digits, tmp_path, mean=(0.5, 0.5, 0.5))
    with pytest.raises(ViceError, match=r"`normalisation` is 'max' in the table, but 'minmax' now\."):
        assess(model, digits, tmp_path, choices=Choices(normalisation="minmax"))
    other = timm.create_model("test_resnet", num_classes=10)
    with pytest.raises(ViceError, match=r"is of other weights \('\w{8}' in the table, but '\w{8}' now\)\."):
        assess(other, digits, tmp_path)
    with pytest.raises(
        ViceError, match=r"is of other weights \(.*\), and was made with other settings: `view_size` is"
    ):
        assess(other, digits, tmp_path, view_size=48)
    assert len(Samples.load(tmp_path).images) == 18  # nothing was lost


def test_images_without_a_mask_count_for_calibration_only(model, digits, tmp_path):
    import shutil

    root = tmp_path / "set"
    shutil.copytree(digits, root)
    missing = VocDataset(root, "test").records[2].image_id
    for mask in root.glob(f"VOC2012/Segmentation*/{missing}.png"):
        mask.unlink()
    found = assess(model, root, tmp_path / "t")
    assert found.of_view("crop64").has_mask.sum() == 8
    assert missing not in found.regions.image_id
    measures = torchvice.measure(found)
    assert measures.images == 9
    assert next(iter(measures.excluded.items())) == ("images without a mask (left out of VICE, JI and mIoU)", 1)
    assert measures.diagrams.reliability["paper"].n == 9
    assert len(measures.diagrams.loss) == 8


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_one_protocol_alone(model, digits, tmp_path, protocol):
    measures = torchvice.measure(assess(model, digits, tmp_path, protocols=(protocol,)))
    other = "strict" if protocol == "paper" else "paper"
    content = measures.to_json()
    assert content[protocol]["ece_ml"] is not None
    assert set(content[other].values()) == {None}
    assert f"not assessed under `{other}`" in content["undefined"][f"{other}.vice"]
    assert content["classification"]["mean_average_precision"] is not None


class OneLabel:
    """The digits with the first label of each image alone."""

    exclusive = True

    def __init__(self, dataset):
        self.dataset, self.classes, self.records = dataset, dataset.classes, dataset.records
        self.image, self.mask = dataset.image, dataset.mask
        self.targets = np.eye(10, dtype=np.uint8)[dataset.targets.argmax(1)]


def test_the_normalisation_is_that_of_the_network_unless_another_is_given(model, digits, tmp_path):
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    own = assess(model, digits, tmp_path / "own", mean=None, std=None, protocols=("strict",)).images.logits
    half = assess(
        model, digits, tmp_path / "half", mean=(0.5,) * 3, std=(0.5,) * 3, protocols=("strict",)
    ).images.logits
    other = assess(model, digits, tmp_path / "other", protocols=("strict",)).images.logits
    np.testing.assert_array_equal(own, half)
    assert np.abs(own - other).max() > 1e-4


@pytest.mark.parametrize("asked", [None, "multilabel"])
def test_exclusive_targets(model, digits, tmp_path, asked):
    dataset = OneLabel(VocDataset(digits, "test"))
    found = torchvice.assess(model, dataset, out=tmp_path, view_size=64, crop=64, targets=asked)
    assert found.exclusive is (asked is None)
    assert found.manifest["targets"] == ("exclusive" if asked is None else "multilabel")
    strict, paper = found.of_view("warp64"), found.of_view("crop64")
    np.testing.assert_allclose(paper.loss, sample_loss(paper.logits, paper.targets))
    if asked is None:
        z, c = torch.tensor(strict.logits), torch.tensor(strict.targets.argmax(1))
        np.testing.assert_allclose(strict.loss, torch.nn.functional.cross_entropy(z, c, reduction="none"), rtol=1e-5)
        np.testing.assert_allclose(strict.confidence, z.softmax(1).amax(1), rtol=1e-5)
        np.testing.assert_array_equal(strict.accuracy, (z.argmax(1) == c).float())
    else:
        np.testing.assert_allclose(strict.loss, sample_loss(strict.logits, strict.targets))


def test_exclusive_targets_are_one_label_an_image(model, digits, tmp_path):
    with pytest.raises(ViceError, match=r"one label per image, but `test_.*` has"):
        assess(model, digits, tmp_path, targets="exclusive")
    with pytest.raises(ViceError, match="'multilabel' or 'exclusive'"):
        assess(model, digits, tmp_path, targets="single")


def test_a_transformer_takes_the_published_warp(digits, tmp_path):
    vit = timm.create_model("test_vit", num_classes=10)
    side = vit.patch_embed.img_size[0]
    found = assess(vit, digits, tmp_path, view_size=None, crop=None)
    assert set(found.images.view) == {f"warp{side}", f"crop{side}"}
    assert found.manifest["explanations"]["paper:gradcam"]["view"] == f"warp{side}"
    assert (found.regions.status[found.regions.label > 0] != "none").any()


def test_a_foreign_checkpoint_with_a_class_map(digits, tmp_path):
    torch.manual_seed(1)
    weights, mapping = tmp_path / "w.pth", tmp_path / "map.yaml"
    trained = timm.create_model("test_resnet", num_classes=12)
    torch.save(trained.state_dict(), weights)
    dataset = VocDataset(digits, "test")
    with pytest.raises(ViceError, match="--class-map"):
        subject_from_weights("test_resnet", weights, dataset, tmp_path / "t")
    mapping.write_text(yaml.safe_dump({name: [c, 11] if c == 3 else c for c, name in enumerate(dataset.classes)}))
    subject = subject_from_weights("test_resnet", weights, dataset, tmp_path / "t", mapping)
    sizes = {"view_size": 64, "crop": 64, "mean": MEAN, "std": STD}
    found = torchvice.assess(subject.model, dataset, out=subject.out, settings=subject.settings, **sizes)
    x = normalise(warp(dataset.image(0), 64), MEAN, STD)[None]
    with torch.no_grad():
        outputs = trained.eval()(x)[0]
    expected = outputs[:10].clone()
    expected[3] = max(outputs[3], outputs[11])
    np.testing.assert_allclose(found.of_view("warp64").logits[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "names none of them"),
        ({"zerro": 0}, "Did you mean `zero`"),
        ([1, 2], "must map class names"),
        ({"zero": 99, "one": 1}, "0 to 11"),
        ({"zero": True, "one": 1}, "0 to 11"),
    ],
)
def test_a_wrong_class_map_is_told(tmp_path, content, said):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ViceError, match=said):
        read_class_map(path, ["zero", "one"], 12)


def test_a_site_is_that_of_the_explainer(model, digits, tmp_path):
    """The same tensor by its site, by its layer, and in a record; the manifest holds the settings, complete."""
    given = {"site": MapSite("layer4")}, {"layer": "layer4"}, {"settings": MapSettings(layer="layer4", device="cpu")}
    tables = [assess(model, digits, tmp_path / str(i), method="gradcam", **how) for i, how in enumerate(given)]
    for table in tables:
        np.testing.assert_array_equal(table.regions.predicted, tables[0].regions.predicted)
        settings = table.manifest["map_settings"]
        assert (settings["layer"], settings["site"]["layer"], settings["view_size"]) == ("layer4", "layer4", 64)
        assert (settings["mean"], settings["choices"]["normalisation"]) == (list(MEAN), "max")
    with pytest.raises(ViceError, match=r"`layer` is 'layer4' in the table, but 'layer3' now\."):
        assess(model, digits, tmp_path / "0", method="gradcam", layer="layer3")


def test_a_table_of_before_the_map_settings_is_read_and_added_to(model, digits, tmp_path):
    assess(model, digits, tmp_path, protocols=("strict",))
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["map_settings"]
    path.write_text(json.dumps(manifest))
    assert torchvice.measure(Samples.load(tmp_path)).images == 9
    found = assess(model, digits, tmp_path, protocols=("strict",), controls=["center"])
    assert "strict:center" in found.manifest["explanations"]
    assert found.manifest["map_settings"]["view_size"] == 64


def test_wrong_arguments(model, digits, tmp_path):
    with pytest.raises(ViceError, match="protocols"):
        assess(model, digits, tmp_path, protocols=("published",))
    ten = timm.create_model("test_resnet", num_classes=3)
    with pytest.raises(ViceError, match="class map"):
        assess(ten, digits, tmp_path / "x")
    with pytest.raises(ViceError, match="device 'nowhere'"):
        assess(model, digits, tmp_path / "z", device="nowhere")
    with pytest.raises(ViceError, match="view_size"):
        assess(model, digits, tmp_path / "y", view_size=0)


def test_a_source_tree_that_is_not_installed_assesses(model, digits, tmp_path, monkeypatch):
    def version(package):
        if package == "torchvice":
            raise PackageNotFoundError(package)
        return importlib.metadata.version(package)

    monkeypatch.setattr("torchvice.assessment.manifest.version", version)
    samples = assess(model, digits, tmp_path / "t")
    assert samples.manifest["versions"]["torchvice"] == torchvice.__version__
    assert samples.manifest["versions"]["timm"] == timm.__version__


def test_versions_of_rows_that_were_made_later_are_kept_and_said(model, digits, tmp_path, monkeypatch):
    out, path = tmp_path / "t", tmp_path / "t" / "manifest.json"
    first = assess(model, digits, out).manifest
    assert "later_versions" not in first
    assert "versions" not in torchvice.measure(Samples.load(out), replicates=0).notes

    monkeypatch.setattr("torchvice.assessment.manifest.version", lambda package: "99.1")
    assert assess(model, digits, out).manifest == first  # nothing was left to do
    again = assess(model, digits, out, also=["gradcam"]).manifest
    (later,) = again["later_versions"]
    assert again["versions"] == first["versions"]
    assert later["torch"] == "99.1"
    assert assess(model, digits, out, also=["gradcam", "layercam"]).manifest["later_versions"] == [later]
    measures = torchvice.measure(Samples.load(out), replicates=0)
    assert measures.source["table"]["later_versions"] == [later]
    note = measures.notes["versions"]
    assert f"torch {first['versions']['torch']} and 99.1" in note
    assert "python" not in note

    files.write_json(path, {**files.read_json(path), "later_versions": "new"})
    with pytest.raises(ViceError, match="later_versions"):
        Samples.load(out)
