"""The probe: how a tensor's shape is read as positions, and that the model is restored."""

import contextlib

import pytest
import timm
import torch
from torch import nn

from torchvice import Explainer, ViceError
from torchvice.explain.capture import eval_mode
from torchvice.models.families import locate
from torchvice.models.probe import SpatialLayout, eval_and_frozen, evaluating, probe, spatial_layout

SQUARE, WIDE = (64, 64), (64, 96)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((1, 8, 4, 4), SQUARE, SpatialLayout("nchw", 0, (4, 4))),
        ((1, 4, 4, 8), SQUARE, SpatialLayout("nhwc", 0, (4, 4))),
        ((1, 4, 4, 6), WIDE, SpatialLayout("nchw", 0, (4, 6))),  # 4 x 4 has not the aspect, 4 x 6 has
        ((1, 4, 6, 4), WIDE, SpatialLayout("nhwc", 0, (4, 6))),
        ((1, 8, 2, 3), (60, 90), SpatialLayout("nchw", 0, (2, 3))),
        ((1, 8, 8, 12), (250, 375), SpatialLayout("nchw", 0, (8, 12))),  # 250 / 32 and 375 / 32 rounded up
        ((1, 8, 3, 5), SQUARE, None),
        ((1, 8, 65, 65), SQUARE, None),  # more places than pixels
        ((2, 8, 4, 4), SQUARE, None),  # windows in the place of the batch
        ((1, 16, 8), SQUARE, SpatialLayout("tokens", 0, (4, 4))),
        ((1, 17, 8), SQUARE, SpatialLayout("tokens", 1, (4, 4))),
        ((1, 18, 8), SQUARE, SpatialLayout("tokens", 2, (4, 4))),
        ((1, 24, 8), WIDE, SpatialLayout("tokens", 0, (4, 6))),
        ((1, 22, 8), SQUARE, None),  # 16 places and six more of a network that names none
        ((1, 8), SQUARE, None),
        ((1, 8, 1, 1), SQUARE, SpatialLayout("nchw", 0, (1, 1))),
    ],
)
def test_shapes_are_read_by_the_aspect(shape, size, expected):
    assert spatial_layout(torch.zeros(shape), size) == expected


def test_where_the_aspect_leaves_a_choice_the_network_decides():
    cube = torch.zeros(1, 8, 8, 8)
    assert spatial_layout(cube, SQUARE).layout == "nchw"
    assert spatial_layout(cube, SQUARE, channels=8, channels_last=True).layout == "nhwc"
    both = torch.zeros(1, 4, 6, 9)  # 4 x 6 and 6 x 9 have the aspect of 64 x 96
    assert spatial_layout(both, WIDE, channels=4, channels_last=True) == SpatialLayout("nchw", 0, (6, 9))
    assert spatial_layout(both, WIDE, channels=9) == SpatialLayout("nhwc", 0, (4, 6))
    assert spatial_layout(both, WIDE, channels=5, channels_last=True) == SpatialLayout("nhwc", 0, (4, 6))
    # A shape that fits one way only is not argued with.
    assert spatial_layout(torch.zeros(1, 9, 8, 8), SQUARE, channels=8, channels_last=True).layout == "nchw"


def test_tokens_that_the_network_tells():
    assert spatial_layout(torch.zeros(1, 21, 8), SQUARE, prefix_tokens=5) == SpatialLayout("tokens", 5, (4, 4))
    # 17 tokens: of a network without prefix they are no square; of patches 4 x 4 one is left.
    assert spatial_layout(torch.zeros(1, 22, 8), SQUARE, patches=(4, 4)) == SpatialLayout("tokens", 6, (4, 4))
    # Behind a merging of patches the embedding's grid no longer fits, and the aspect decides.
    assert spatial_layout(torch.zeros(1, 4, 8), SQUARE, patches=(4, 4)) == SpatialLayout("tokens", 0, (2, 2))


def _state(model):
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    parameters = [(p.requires_grad, p.grad) for p in model.parameters()]
    return hooks, [m.training for m in model.modules()], parameters


class Refusing(nn.Module):
    """Takes no image of 48 x 48."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        maps = self.norm(self.conv(x))
        if x.shape[-1] == 48:
            raise RuntimeError("48 is too few")
        return maps.mean((2, 3))


@pytest.mark.parametrize("size", [(48, 48), (32, 32)])
def test_the_model_comes_back_as_it_was(size):
    model = Refusing().train()
    model.norm.eval()
    model.conv.bias.requires_grad_(False)
    before, tensors = _state(model), {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    if size == (48, 48):
        with pytest.raises(ViceError, match="48 is too few"):
            probe(model, size)
    else:
        seen = probe(model, size)
        assert [
            (record.layer, record.where) for record in seen.records
        ] == [  # the image, which the first takes, is no map
            ("conv", "output"),
            ("norm", "input"),
            ("norm", "output"),
        ]
    assert _state(model) == before
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())


def test_works_under_the_modes_of_the_caller():
    model = Refusing()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert probe(model, (32, 32)).outputs.requires_grad
            assert not torch.is_grad_enabled()


def test_a_tensor_that_was_written_to_is_known():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    intact = {(record.layer, record.where): record.intact for record in probe(model, (8, 8)).records}
    assert not intact["0", "output"]
    assert intact["1", "output"]


def test_a_classifier_of_zeros_answers_with_noise():
    model = timm.create_model("test_resnet", num_classes=4)
    with torch.no_grad():
        model.fc.weight.zero_()
    assert probe(model, (64, 64)).outputs.std() > 0
    assert not model.fc.weight.any()


class _Raises(nn.Module):
    """A network with a fault in its forward."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, images):
        return self.layer(images).missing


class _Nan(nn.Module):
    """A network whose second output is the logarithm of a negative number."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, images):
        means = self.layer(images).mean((2, 3))
        return torch.stack([means[:, 0], (-means[:, 1].square() - 1).log()], 1)


class _Small(nn.Module):
    """A network of images of 32 x 32 alone."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 2, 3), nn.Linear(2 * 30 * 30, 4)

    def forward(self, images):
        return self.head(self.layer(images).relu().flatten(1))


def test_a_forward_that_raises_is_named_with_its_error():
    with pytest.raises(ViceError) as refused:
        locate(_Raises())
    assert (
        "_Raises must run on an image (1, 3, 224, 224), but its forward raises AttributeError" in refused.value.message
    )
    assert "of test_probe.py)" in refused.value.message
    assert "layer" not in refused.value.way_out


def test_the_way_out_for_another_size_works():
    model = _Small()
    with pytest.raises(ViceError, match=r"its forward raises RuntimeError: .*mat1 and mat2 shapes") as refused:
        locate(model)
    assert "model.pretrained_cfg = {'input_size': (3, height, width)}" in refused.value.way_out
    model.pretrained_cfg = {"input_size": (3, 32, 32)}
    assert locate(model).layer == "layer"


def test_outputs_that_are_nan_are_counted():
    with pytest.raises(ViceError, match="must return finite logits, but 1 of 2 are NaN or infinite") as refused:
        locate(_Nan())
    assert "Look in its forward" in refused.value.way_out


class Merging(nn.Linear):
    """An adapter of low rank that eval mode merges into the weights and train mode takes out, as in loralib."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.down, self.up = nn.Parameter(torch.randn(2, sizes[0])), nn.Parameter(torch.randn(sizes[1], 2))
        self.merged = False

    def train(self, mode=True):
        if mode is self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down).data
            self.merged = not mode
        return super().train(mode)

    def forward(self, value):
        found = super().forward(value)
        return found if self.merged else found + value @ self.down.T @ self.up.T


class Tuned(nn.Module):
    """A network of which a part never trains, under a `train` of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc, self.kept = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), Merging(8, 8), Merging(8, 4)

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x):
        return self.kept(self.fc(self.norm(self.conv(x)).mean((2, 3))))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("borrow", [evaluating, eval_mode, lambda model: eval_and_frozen(model, gradients=True)])
def test_a_train_of_ones_own_is_told_the_mode_again(borrow, fails):
    model = Tuned().train()
    model.kept.eval()  # merged, though the network trains
    before, weights = _state(model), [layer.weight.clone() for layer in (model.fc, model.kept)]
    images = torch.randn(2, 3, 16, 16)
    expected = model(images)
    with pytest.raises(KeyError) if fails else contextlib.nullcontext(), borrow(model):
        assert model.fc.merged
        assert model.kept.merged
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
        if fails:
            raise KeyError
    assert (model.fc.merged, model.kept.merged) == (False, True)
    assert _state(model) == before
    for layer, weight in zip((model.fc, model.kept), weights, strict=True):
        torch.testing.assert_close(layer.weight, weight, rtol=1e-5, atol=1e-5)  # sums and differences round


def test_explaining_leaves_an_adapter_in_training():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Merging(8, 4)).train()
    images = torch.randn(2, 3, 16, 16)
    expected = model(images).detach()
    torch.testing.assert_close(Explainer(model)(images, [[1], [2]]).logits, expected, rtol=1e-4, atol=1e-5)
    assert model[3].training
    assert not model[3].merged
    torch.testing.assert_close(model(images).detach(), expected, rtol=1e-4, atol=1e-5)
