"""RISE and occlusion against plain loops and captum; their passes, seeds and edges."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from torchvice import Explainer
from torchvice.explain import hiding
from torchvice.explain.scene import Scene
from torchvice.models.families import MapSite

LABELS = [[0, 2], [], [1]]


class Counted(nn.Module):
    """A network that is not linear, and the size of each of its batches."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.features = nn.Conv2d(3, 3, 3, padding=1)
        with torch.no_grad():
            self.features.weight.copy_(torch.randn(3, 3, 3, 3, generator=generator))
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return self.features(x).relu().square().mean((2, 3))


@pytest.fixture
def images():
    return torch.randn(3, 3, 28, 42, generator=torch.Generator().manual_seed(1))


def occluded(model, image, label):
    """Occlusion square by square."""
    height, width = image.shape[1] // 14, image.shape[2] // 14
    total, count = torch.zeros(14, 14), torch.zeros(14, 14)
    whole = model(image[None])[0, label]
    for row in range(13):
        for column in range(13):
            hidden = image.clone()
            hidden[:, row * height : (row + 2) * height, column * width : (column + 2) * width] = 0
            total[row : row + 2, column : column + 2] += whole - model(hidden[None])[0, label]
            count[row : row + 2, column : column + 2] += 1
    return total / count


@torch.no_grad()
def test_occlusion_is_a_loop_whose_passes_all_labels_share(images):
    model, reported = Counted(), []
    explainer = Explainer(
        model, "occlusion", layer="features", batch_size=100, progress=lambda *step: reported.append(step)
    )
    model.batches.clear()
    found = explainer(images, LABELS)
    assert model.batches == [3, 100, 69, 100, 69]
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]
    expected = torch.stack([occluded(model, images[i], c) for i, c in found.pairs.tolist()])
    torch.testing.assert_close(found.maps, expected)


def test_occlusion_is_captums(images):
    attr = pytest.importorskip("captum.attr")
    model = timm.create_model("test_resnet", num_classes=3).eval()
    found = Explainer(model, "occlusion")(images[:1], [[2]]).maps[0]
    theirs = attr.Occlusion(model).attribute(images[:1], (3, 4, 6), (3, 2, 3), target=2, perturbations_per_eval=32)
    blocks = theirs[0, 0].reshape(14, 2, 14, 3)
    torch.testing.assert_close(blocks[:, :1, :, :1].expand_as(blocks), blocks)  # the same within a cell
    torch.testing.assert_close(found, blocks[:, 0, :, 0], rtol=1e-4, atol=1e-6)


def test_occlusion_of_a_tiny_image_has_fewer_places():
    found = Explainer(Counted(), "occlusion", layer="features")(torch.ones(1, 3, 1, 5), [[0]])
    assert found.maps.shape == (1, 1, 5)
    assert torch.isfinite(found.maps).all()


def masks_of(image, seed):
    """The masks of RISE one by one, as the authors' code makes them, from the stream of the image."""
    scene = Scene(nn.Identity(), image[None], MapSite("x"), None, [(0, 0)], seed=seed)
    stream = torch.Generator().manual_seed(scene.seed_of_image(0))
    grids = torch.rand(1000, 1, 7, 7, generator=stream) < 0.5
    cell = [-(-side // 7) for side in image.shape[1:]]
    down, across = (torch.randint(side, (1000,), generator=stream).tolist() for side in cell)
    for grid, top, left in zip(grids, down, across, strict=True):
        size = [8 * side for side in cell]
        large = functional.interpolate(grid[None].float(), size, mode="bilinear", align_corners=False)[0, 0]
        yield large[top : top + image.shape[1], left : left + image.shape[2]]


@torch.no_grad()
def test_rise_is_the_papers_sum_less_the_mean_score(images):
    """The departure from the paper: its sum is ours plus the mean score times the mean mask over 1/2."""
    model = Counted()
    found = Explainer(model, "rise", layer="features", seed=4, batch_size=64)(images, LABELS)
    for (i, c), ours in zip(found.pairs.tolist(), found.maps, strict=True):
        masks = torch.stack(list(masks_of(images[i], 4)))
        assert 0 <= masks.min() < masks.max() <= 1 + 1e-6
        scores = model(images[i] * masks[:, None])[:, c]
        paper = torch.einsum("b,bhw->hw", scores, masks) / (1000 * 0.5)
        torch.testing.assert_close(ours + scores.mean() * masks.mean(0) / 0.5, paper, rtol=1e-4, atol=1e-5)
        assert (ours - paper).abs().max() > 0.5 * paper.abs().max()


def test_rise_depends_on_seed_and_image_only(images, monkeypatch):
    monkeypatch.setattr(hiding, "RISE_MASKS", 50)
    model = Counted()
    state = torch.random.get_rng_state()
    both = Explainer(model, "rise", layer="features", seed=5)(images, LABELS).maps
    assert torch.equal(state, torch.random.get_rng_state())
    alone = Explainer(model, "rise", layer="features", seed=5, batch_size=7)(images[2:], [[1]]).maps
    torch.testing.assert_close(both[2:], alone, rtol=1e-4, atol=1e-5)
    other = Explainer(model, "rise", layer="features", seed=6)(images[2:], [[1]]).maps
    assert (other - alone).abs().max() > 0.01 * alone.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("method", ["rise", "occlusion"])
def test_the_object_is_found(method):
    """The logit is the brightness of a quarter of the image: the map is positive there, and about 0 elsewhere."""

    class Quarter(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Identity()

        def forward(self, x):
            bright = self.features(x)[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean((1, 2, 3))
            return torch.stack([bright, -bright], 1)

    found = Explainer(Quarter(), method, layer="features")(torch.ones(1, 3, 56, 56), [[0, 1]]).maps
    size = found.shape[1] // 2
    inside, beyond = found[0, :size, :size].mean(), found[0, size:, size:].abs().mean()
    assert inside > 5 * beyond
    torch.testing.assert_close(found[1], -found[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["rise", "occlusion"])
def test_no_label_needs_no_further_pass(images, method):
    model = Counted()
    explainer = Explainer(model, method, layer="features")
    model.batches.clear()
    assert len(explainer(images, [[], [], []]).maps) == 0
    assert model.batches == [3]


@pytest.mark.parametrize("method", ["rise", "occlusion"])
def test_sums_that_cancel_stay_in_float32_under_a_lower_precision(images, method, monkeypatch):
    """A network of no product, whose logits lie far from 0: in bfloat16 their sums would hide the map."""

    class Bright(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Identity()

        def forward(self, x):
            return 50 + self.features(x).abs().mean((2, 3))

    monkeypatch.setattr(hiding, "RISE_MASKS", 70)
    expected = Explainer(Bright(), method, layer="features")(images, LABELS).maps
    found = Explainer(Bright(), method, layer="features", precision="bfloat16")(images, LABELS).maps
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
