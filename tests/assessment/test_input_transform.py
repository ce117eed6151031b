"""The user's own transform: what it shows is found by experiment, and maps lie where the network saw the image."""

from __future__ import annotations

import json
import linecache
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

import torchvice
from torchvice import ViceError
from torchvice.assessment import MapSettings
from torchvice.assessment.input_transform import InputTransform
from torchvice.assessment.map_files import write_map_files
from torchvice.assessment.views import views_of
from torchvice.explain import Choices
from torchvice.models.families import MapSite
from torchvice.samples import Samples
from torchvice.samples.placing import box_of, whole_map
from variants import slow_but

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
END = [v1.ToTensor(), v1.Normalize(MEAN, STD)]
ALL = {"protocols": ("strict",), "controls": True, "also": ("mirror", "predicted"), "without": ("object", "patch")}


def composed(*steps):
    return v1.Compose([*steps, *END])


class Processor:
    """Gives what an image processor of transformers gives: a dictionary with a list of arrays."""

    def __call__(self, image):
        return {"pixel_values": [composed(v1.Resize(71), v1.CenterCrop(64))(image).numpy()]}


KNOWN = {
    "warp": (composed(v1.Resize((64, 64))), "warp64"),
    "short side": (composed(v1.Resize(71), v1.CenterCrop(64)), "short71-crop64"),
    "all of the short side": (composed(v1.Resize(64), v1.CenterCrop(64)), "short64-crop64"),
    "crop of the warp": (composed(v1.Resize((71, 71)), v1.CenterCrop(64)), "warp71-crop64"),
    "crop": (composed(v1.CenterCrop(64)), "crop64"),
    "padded crop": (composed(v1.CenterCrop(400)), "crop400"),
    "nearest": (composed(v1.Resize(48, v1.InterpolationMode.NEAREST), v1.CenterCrop(32)), "short48-crop32"),
    "version 2": (
        v2.Compose([v2.ToImage(), v2.Resize(71), v2.CenterCrop(64), v2.ToDtype(torch.float32, True), END[1]]),
        "short71-crop64",
    ),
    "weights of torchvision": (torchvision.models.ResNet18_Weights.DEFAULT.transforms(), "short256-crop224"),
    "timm": (timm.data.create_transform(64, crop_pct=0.9, mean=MEAN, std=STD), "short71-crop64"),
    "timm squash": (
        timm.data.create_transform(64, crop_pct=0.9, crop_mode="squash", mean=MEAN, std=STD),
        "warp71-crop64",
    ),
    "timm border": (
        timm.data.create_transform(64, crop_pct=0.9, crop_mode="border", mean=MEAN, std=STD),
        "long71-crop64",
    ),
    "a dictionary": (Processor(), "short71-crop64"),
}


@pytest.mark.parametrize(
    "name", slow_but(KNOWN, "warp", "short side", "padded crop", "version 2", "timm border", "a dictionary")
)
def test_what_is_shown_is_found(name):
    function, view = KNOWN[name]
    state = torch.get_rng_state()
    transform = InputTransform(function)
    assert transform.view == view
    np.testing.assert_allclose(transform.mean, MEAN, atol=1e-5)
    np.testing.assert_allclose(transform.std, STD, atol=1e-5)
    for size in ((375, 500), (90, 41), (48, 48)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        given = function(v1.ToPILImage()(image))
        given = torch.tensor(given["pixel_values"][0]) if isinstance(given, dict) else given
        assert torch.equal(transform(image), given)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "options", "view"),
    [
        ("ViTImageProcessor", {"size": {"height": 64, "width": 64}}, "warp64"),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 71}, "crop_size": 64}, "short71-crop64"),
        (
            "BitImageProcessor",
            {"size": {"shortest_edge": 71}, "crop_size": {"height": 64, "width": 64}},
            "short71-crop64",
        ),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 64}, "crop_pct": 0.875}, "short73-crop64"),
    ],
)
def test_image_processors_of_transformers_are_taken(name, options, view):
    transformers = pytest.importorskip("transformers")
    transform = InputTransform(getattr(transformers, name)(**options, image_mean=MEAN, image_std=STD))
    assert transform.view == view
    np.testing.assert_allclose(transform.mean, MEAN, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (composed(v1.Resize((64, 64)), v1.RandomHorizontalFlip()), "must do the same with an image each time"),
        (composed(v1.RandomResizedCrop(64)), "must do the same with an image each time"),
        (composed(v1.Resize((64, 64)), v1.ColorJitter(0.4)), "must do the same with an image each time"),
        (composed(v1.Resize((64, 64)), v1.RandomHorizontalFlip(1.0)), "but mirrors them"),
        (lambda image: composed(v1.Resize((64, 64)))(image.rotate(90)), "but turns or bends them"),
        (lambda image: composed(v1.Resize((64, 64)))(image.rotate(3)), "but turns or bends them"),
        (composed(v1.FiveCrop(64), v1.Lambda(lambda five: five[0])), "shows rows 0 to 64 and columns 0 to 64"),
        (composed(v1.Resize(64)), "must give a square, but makes 64 x 85 pixels"),
        (v1.Resize((64, 64)), "must give (3, S, S) floating-point numbers"),
        (v2.Compose([v2.Resize((64, 64)), v2.PILToTensor()]), "of uint8. End it with ToTensor()"),
        (v1.Compose([v1.Resize((64, 64)), v1.ToTensor(), v1.Lambda(lambda x: x**2)]), "must normalise images"),
        (v1.Compose([v1.Resize((64, 64)), v1.ToTensor(), v1.Lambda(lambda x: 0 * x)]), "must normalise images"),
        (lambda image: image.nothing, "raises AttributeError"),
        (composed(v1.Lambda(lambda image: v1.Resize((64, 64 + image.height % 7))(image))), "must give a square"),
    ],
)
def test_other_transforms_are_refused(function, message):
    with pytest.raises(ViceError) as error:
        _ = InputTransform(function, "mine").view
    assert message in str(error.value).replace("\n    ", " ")


@pytest.mark.parametrize("chance", [0.5, 0.1])
def test_a_transform_that_mirrors_at_times_is_refused(chance):
    for seed in range(5):
        torch.manual_seed(seed)
        transform = InputTransform(composed(v1.Resize((32, 32)), v1.RandomHorizontalFlip(chance)))
        with pytest.raises(ViceError, match=r"must do the same with an image each time|but mirrors them"):
            transform.view  # noqa: B018


def test_a_transform_that_is_random_with_the_images_alone_is_refused():
    """Noise of ramps is not found at the start: the first images go through it twice."""

    def function(image):
        made = composed(v1.Resize((32, 32)))(image)
        return made if len(np.unique(np.asarray(image))) > 250 else made + 0.1 * torch.rand(1)

    transform = InputTransform(function)
    assert transform.view == "warp32"
    image = np.random.default_rng(0).integers(0, 100, (48, 48, 3), dtype=np.uint8)
    transform._checked.add((48, 48))
    state = torch.get_rng_state()
    with pytest.raises(ViceError, match="must do the same with an image each time"):
        transform(image)
    assert not torch.equal(torch.get_rng_state(), state)  # only what is repeated leaves no trace


def test_a_size_of_image_that_is_treated_in_another_way_is_refused():
    small, other = composed(v1.Resize((64, 64))), composed(v1.CenterCrop(64))
    transform = InputTransform(lambda image: (small if image.height >= 100 else other)(image))
    transform(np.zeros((100, 120, 3), np.uint8))
    with pytest.raises(ViceError, match=r"of 90 x 120 pixels it shows rows 13 to 77 and columns 28 to 92"):
        transform(np.zeros((90, 120, 3), np.uint8))


@pytest.mark.parametrize("view", ["short71-crop64", "warp71-crop64", "long71-crop64", "crop64", "short30-crop64"])
@pytest.mark.parametrize("size", [(120, 160), (90, 41), (48, 48)])
def test_the_box_is_where_the_crop_shows_the_image(view, size):
    """The columns and rows that the first and the last pixel of the input come from, by a walk over the image."""
    how, _, rest = view.rpartition("crop")
    to, side = int(how[-3:-1] or 0), int(rest)
    length = {"s": min(size), "l": max(size)}.get(how[:1], 0)
    resized = [to if how[:1] == "w" else int(to * own / length) if how else own for own in size]
    top, left, height, width = box_of(view, size)
    for start, long, own, middle in zip((top, left), (height, width), size, resized, strict=True):
        assert abs(start - (middle - side) / 2 * own / middle) <= 0.5
        assert abs(start + long - (middle + side) / 2 * own / middle) <= 0.5


class Bright(nn.Module):
    """A network whose map is the brightness of 4 x 4 pixels: what it looks at is known."""

    def __init__(self):
        super().__init__()
        self.pool, self.head = nn.AvgPool2d(4), nn.Conv2d(3, 1, 1, bias=False)
        with torch.no_grad():
            self.head.weight.fill_(1)

    def forward(self, x):
        return self.head(self.pool(x)).mean((2, 3))


class Spot:
    """Black images with one white disc, at another place in each, and its mask; one class."""

    classes, exclusive = ("spot",), False
    places = ((60, 80), (50, 75), (70, 60), (60, 110), (45, 95))
    sizes = ((120, 160), (120, 160), (160, 120), (120, 200), (90, 200))

    def __init__(self):
        self.targets = np.ones((5, 1), np.uint8)
        self.records = [SimpleNamespace(image_id=str(i)) for i in range(5)]

    def mask(self, i):
        rows, columns = np.mgrid[: self.sizes[i][0], : self.sizes[i][1]]
        return ((rows - self.places[i][0]) ** 2 + (columns - self.places[i][1]) ** 2 < 18**2).astype(np.uint8)

    def image(self, i):
        return np.repeat(self.mask(i)[..., None] * np.uint8(255), 3, axis=2)


PLACED = {
    "warp": composed(v1.Resize((96, 96))),
    "short side": composed(v1.Resize(110), v1.CenterCrop(96)),
    "long side": timm.data.create_transform(96, crop_pct=1.0, crop_mode="border", mean=MEAN, std=STD),
    "crop": composed(v1.CenterCrop(96)),
    "padded": composed(v1.CenterCrop(240)),
}


@pytest.mark.parametrize("name", slow_but(PLACED, "short side", "padded"))
def test_maps_lie_on_what_the_network_saw(name, tmp_path):
    site = MapSite("head", layout="nchw", stride=(4, 4))
    settings = {"method": "gradcam", "site": site, "outputs": "logits", "device": "cpu", "transform": PLACED[name]}
    data = Spot()
    write_map_files(Bright(), data, tmp_path / "maps", protocol="strict", **settings)
    for i in range(5):
        plane, mask = np.load(tmp_path / f"maps/{i}.npz")["maps"][0].astype(float), data.mask(i)
        assert plane.shape == mask.shape
        centre = [(plane * axis).sum() / plane.sum() for axis in np.mgrid[: mask.shape[0], : mask.shape[1]]]
        assert np.abs(np.subtract(centre, data.places[i])).max() < 3
        assert ((plane > 0.5) & (mask == 1)).sum() > 0.6 * ((plane > 0.5) | (mask == 1)).sum()
    samples = torchvice.assess(
        Bright(), data, out=tmp_path / "t", protocols=("strict",), without=("object", "patch"), **settings
    )
    regions = samples.of_protocol("strict").regions
    iou = regions.intersection[:, 25] / (regions.predicted[:, 25] + regions.mask_pixels - regions.intersection[:, 25])
    assert (iou[regions.label == 1] > 0.6).all()
    view = samples.manifest["protocols"]["strict"]["view"]
    assert view == InputTransform(PLACED[name]).view
    drawn = whole_map(samples.maps.map[0].astype(float).clip(0), view, data.sizes[0], data.sizes[0])  # as on the page
    np.testing.assert_allclose(drawn / drawn.max(), np.load(tmp_path / "maps/0.npz")["maps"][0], atol=0.05)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=1).eval()


def test_the_transform_of_the_view_gives_its_table(network, tmp_path):
    given = {"outputs": "logits", "device": "cpu", **ALL}
    mine = torchvice.assess(network, Spot(), out=tmp_path / "a", transform=composed(v1.Resize((64, 64))), **given)
    own = torchvice.assess(network, Spot(), out=tmp_path / "b", view_size=64, mean=MEAN, std=STD, **given)
    for kind in ("images", "regions", "maps"):
        for column, values in vars(getattr(own, kind)).items():
            other = getattr(getattr(mine, kind), column)
            if values.dtype == object and kind == "maps":
                assert all(np.array_equal(a, b) for a, b in zip(values, other, strict=True)), column
            else:
                np.testing.assert_array_equal(values, other, column)
    assert "transform" not in own.manifest["map_settings"]
    assert mine.manifest["map_settings"]["transform"]["view"] == "warp64"
    assert "CenterCrop" not in mine.manifest["map_settings"]["transform"]["repr"]


def test_paper_keeps_its_own_preprocessing(network, tmp_path):
    common = {"outputs": "logits", "device": "cpu", "crop": 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    both = torchvice.assess(network, Spot(), out=tmp_path / "a", transform=PLACED["short side"], **common)
    alone = torchvice.assess(network, Spot(), out=tmp_path / "b", protocols=("paper",), **common)
    mine, own = (samples.of_protocol("paper") for samples in (both, alone))
    np.testing.assert_array_equal(mine.images.logits, own.images.logits)
    np.testing.assert_array_equal(mine.regions.predicted, own.regions.predicted)
    assert both.of_protocol("strict").settings["view"] == "short110-crop96"
    with pytest.raises(ViceError, match="must be for the protocol strict"):
        views_of(network, ["paper"], MapSettings(transform=PLACED["crop"], device="cpu"))


@pytest.mark.parametrize("strict", [{"transform": composed(v1.CenterCrop(64))}, {"choices": Choices(view="crop")}])
def test_the_same_crop_of_both_protocols_has_rows_of_its_own(network, tmp_path, strict):
    given = {"outputs": "logits", "device": "cpu", "crop": 64, "mean": (0.4,) * 3, "std": (0.3,) * 3}
    size = {} if "transform" in strict else {"view_size": 64}
    both = torchvice.assess(network, Spot(), out=tmp_path / "a", **strict, **size, **given)
    alone = torchvice.assess(network, Spot(), out=tmp_path / "b", protocols=("strict",), **strict, **size, **given)
    mine, own = (samples.of_protocol("strict") for samples in (both, alone))
    np.testing.assert_array_equal(mine.images.logits, own.images.logits)
    np.testing.assert_array_equal(mine.regions.predicted, own.regions.predicted)
    assert (mine.view, own.view, both.of_protocol("paper").view) == ("crop64-strict", "crop64", "crop64")
    assert mine.settings["view"] == "crop64"


def test_a_changed_transform_does_not_resume(network, tmp_path):
    given = {"outputs": "logits", "device": "cpu", "protocols": ("strict",), "out": tmp_path / "t"}
    torchvice.assess(network, Spot(), transform=PLACED["short side"], **given)
    torchvice.assess(network, Spot(), transform=composed(v1.Resize(110), v1.CenterCrop(96)), **given)
    for other in (composed(v1.Resize(100), v1.CenterCrop(96)), composed(v1.Resize(110, 3), v1.CenterCrop(96))):
        with pytest.raises(ViceError, match="of `transform` is"):
            torchvice.assess(network, Spot(), transform=other, **given)
    with pytest.raises(ViceError, match=r"`transform` is .* in the table, but not set now"):
        torchvice.assess(network, Spot(), view_size=96, **given)
    torchvice.measure(Samples.load(tmp_path / "t"), replicates=0)
    assert json.loads((tmp_path / "t/manifest.json").read_text())["map_settings"]["transform"]["name"] == "Compose"


def test_a_changed_function_has_another_digest(tmp_path):
    digests = []
    for size in (64, 64, 70):
        (tmp_path / "a.py").write_text(f"def mine(image):\n    return image.resize(({size}, {size}))\n")
        space: dict = {}
        exec(compile((tmp_path / "a.py").read_text(), str(tmp_path / "a.py"), "exec"), space)
        linecache.checkcache()
        digests.append(InputTransform(space["mine"]).sha256)
    assert digests[0] is not None
    assert digests[0] == digests[1] != digests[2]
    assert InputTransform(lambda image: image).sha256 is None
    assert InputTransform(composed()).sha256 is None


@pytest.mark.filterwarnings("ignore:The network takes one channel")
def test_a_network_of_one_channel_sees_grey_images(tmp_path):
    model = timm.create_model("test_resnet", num_classes=1, in_chans=1).eval()
    grey = v1.Compose([v1.Grayscale(), v1.Resize((64, 64)), v1.ToTensor(), v1.Normalize(0.3, 0.2)])
    given = {"protocols": ("strict",), "outputs": "logits", "device": "cpu"}
    samples = torchvice.assess(model, Spot(), out=tmp_path / "t", transform=grey, **given)
    with torch.no_grad():
        expected = model(torch.stack([grey(v1.ToPILImage()(Spot().image(i))) for i in range(5)]))
    np.testing.assert_allclose(samples.images.logits, expected.numpy(), atol=1e-5)
    with pytest.raises(ViceError, match="must give grey images for a network of one channel"):
        torchvice.assess(model, Spot(), out=tmp_path / "u", transform=PLACED["warp"], **given)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"view_size": 64}, "gives 96 pixels, but `view_size` is 64. Leave `view_size` out."),
        ({"choices": Choices(view="crop")}, "but so does the choice `view`"),
        ({"choices": Choices(scales=(0.5, 1.0))}, "but so does the choice `scales`"),
        ({"also": ("scale0.75",)}, "but so does the choice `scales` (scaleFACTOR, too)"),
        ({"transform": "mine.py:f"}, "must be a function from a PIL image to a tensor, but is a str"),
    ],
)
def test_what_does_not_go_with_a_transform(network, tmp_path, more, message):
    given = {"transform": PLACED["crop"], "protocols": ("strict",), "device": "cpu", **more}
    with pytest.raises(ViceError) as error:
        torchvice.assess(network, Spot(), out=tmp_path / "t", **given)
    assert message in str(error.value).replace("\n    ", " ")
