"""Controls: they know nothing of the network, and are the same however they are batched."""

import timm
import torch

from torchvice import Explainer
from torchvice.explain import normalise


def _model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=4)


IMAGES = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))
LABELS = [[0, 3], [1], [0]]


def test_random_depends_on_seed_image_and_class_only():
    found = Explainer(_model(), "random", seed=5)(IMAGES, LABELS)
    assert found.maps.shape == (4, 2, 3)
    assert float(found.maps.min()) >= 0
    assert float(found.maps.max()) < 1
    torch.manual_seed(9)
    another = timm.create_model("test_resnet", num_classes=4)
    turned = Explainer(another, "random", seed=5)(IMAGES.flip(0), [[0], [1], [3, 0]])
    assert torch.equal(turned.maps[[3, 2, 1, 0]], found.maps)
    alone = Explainer(another, "random", seed=5)(IMAGES[1:2], [[2, 1]])
    assert torch.equal(alone.maps[1], found.maps[2])
    # Another class, another image, another seed: another map.
    assert not torch.equal(found.maps[0], found.maps[1])
    assert not torch.equal(found.maps[0], found.maps[3])
    assert not torch.equal(Explainer(another, "random", seed=6)(IMAGES, LABELS).maps, found.maps)


def test_random_leaves_the_global_random_state_and_is_uniform():
    explainer = Explainer(_model(), "random")
    before = torch.random.get_rng_state()
    found = explainer(torch.randn(1, 3, 640, 640, generator=torch.Generator().manual_seed(2)), [range(4)])
    assert torch.equal(torch.random.get_rng_state(), before)
    # 1600 uniform values: mean 1/2 with standard error 0.007, variance 1/12.
    assert abs(float(found.maps.mean()) - 1 / 2) < 0.03
    assert abs(float(found.maps.var()) - 1 / 12) < 0.01


def test_center_by_hand():
    # At 2 x 3 the places lie at -1/4, 1/4 of the height and -1/3, 0, 1/3 of the width, sigma is 1/4 of each.
    found = Explainer(_model(), "center")(IMAGES, LABELS)
    edge = torch.exp(torch.tensor(-0.5 - (4 / 3) ** 2 / 2))
    middle = torch.exp(torch.tensor(-0.5))
    expected = torch.stack([edge, middle, edge]).expand(4, 2, 3)
    torch.testing.assert_close(found.maps, expected)
    assert found.status == ("ok",) * 4


def test_foreground_is_all_ones_and_stays_so_under_max():
    found = Explainer(_model(), "foreground")(IMAGES, LABELS)
    assert torch.equal(found.maps, torch.ones(4, 2, 3))
    assert found.status == ("constant",) * 4
    assert torch.equal(normalise(found.maps, "max"), torch.ones(4, 2, 3))


def test_controls_give_the_networks_logits_and_take_labels_from_them():
    model = _model().eval()
    with torch.no_grad():
        expected = model(IMAGES)
    for method in ("random", "center", "foreground"):
        found = Explainer(model, method)(IMAGES, "predicted")
        torch.testing.assert_close(found.logits, expected)
        assert found.pairs.tolist() == (expected > 0).nonzero().tolist()
        assert len(found.maps) == len(found.pairs)
        assert Explainer(model, method)(IMAGES, [[], [], []]).maps.shape == (0, 2, 3)


def test_random_takes_half_precision():
    model = _model().bfloat16()
    found = Explainer(model, "random")(IMAGES.bfloat16(), LABELS)
    assert found.maps.dtype == torch.float32
