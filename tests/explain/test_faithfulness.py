"""Insertion, deletion and ROAD: by hand, against loops and pytorch-grad-cam, with a planted driver."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from torchvice.errors import ViceError
from torchvice.explain import Explainer, Faithfulness, FaithfulnessChoices, MapRequest, faithfulness, upsample
from torchvice.explain.faithfulness import MEASURES
from torchvice.metrics import normalised_faithfulness

GRID = (4, 4)


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4).train()
    with torch.no_grad():
        model.fc.weight *= 20  # so that p moves
    return Explainer(model)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 24, generator=torch.Generator().manual_seed(1))


def some_maps(images: torch.Tensor, seed: int = 2) -> list[MapRequest]:
    """Three maps of two images, without ties."""
    generator = torch.Generator().manual_seed(seed)
    maps = upsample(torch.rand(3, *GRID, generator=generator), tuple(images.shape[2:]))
    maps += 1e-3 * torch.rand(maps.shape, generator=generator)
    return [MapRequest(image, label, m, GRID) for image, label, m in zip((0, 1, 1), (2, 0, 3), maps, strict=True)]


def mean_is_p(x: torch.Tensor) -> torch.Tensor:
    """The logit whose sigmoid is the mean of the first channel."""
    return torch.logit(x[:, 0].mean((1, 2)).double())[:, None]


def test_by_hand() -> None:
    # Four pixels of 0.8, 0.4, 0.2, 0.2 are ranked in this order: p = 0.4 on the whole, and as blank 0.
    image = torch.tensor([0.8, 0.4, 0.2, 0.2]).expand(1, 3, 1, 4)
    ranked = [MapRequest(0, 0, torch.tensor([[4.0, 3, 2, 1]]), (1, 4))]
    chosen = FaithfulnessChoices(("insertion", "deletion"), steps=4, canvas="mean")
    found = faithfulness(mean_is_p, image, ranked, chosen)
    # p after 0..4 pixels: 0, 0.2, 0.3, 0.35, 0.4; deleted: 0.4, 0.2, 0.1, 0.05, 0. By trapezia:
    assert found.insertion[0] == pytest.approx((0.2 + 0.3 + 0.35 + 0.2) / 4)
    assert found.deletion[0] == pytest.approx((0.2 + 0.2 + 0.1 + 0.05) / 4)
    assert (found.p_full[0], found.p_canvas[0], found.p_blank[0]) == pytest.approx((0.4, 0, 0))
    assert np.isnan(found.road[0])
    assert np.isnan(found.road_random[0])


def test_curves_as_a_loop_over_steps(explainer: Explainer, images: torch.Tensor) -> None:
    asked = some_maps(images)
    chosen = FaithfulnessChoices(("insertion", "deletion"), steps=7)
    found = faithfulness(explainer.logits, images, asked, chosen, batch_size=5)
    weights = np.array([np.exp(-(d**2) / (2 * 5**2)) for d in range(-5, 6)])
    weights /= weights.sum()
    model = explainer.model.eval()
    for row, one in enumerate(asked):
        picture = images[one.image].numpy()
        framed = np.pad(picture, ((0, 0), (5, 5), (5, 5)), mode="edge")
        blurred = np.zeros_like(picture)
        for dy in range(11):
            for dx in range(11):
                blurred += weights[dy] * weights[dx] * framed[:, dy : dy + 32, dx : dx + 24]
        order = np.argsort(-one.map.numpy().ravel())
        for name, start, end in (("insertion", blurred, picture), ("deletion", picture, np.zeros_like(picture))):
            curve = []
            for step in range(8):
                shown = start.reshape(3, -1).copy()
                chosen_pixels = order[: round(768 * step / 7)]
                shown[:, chosen_pixels] = end.reshape(3, -1)[:, chosen_pixels]
                with torch.no_grad():
                    logit = model(torch.tensor(shown.reshape(1, 3, 32, 24)))[0, one.label]
                curve.append(float(torch.sigmoid(logit)))
            area = sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / 7
            assert getattr(found, name)[row] == pytest.approx(area, abs=1e-5), name
    model.train()


def test_road_as_pytorch_grad_cam_has_it(explainer: Explainer, images: torch.Tensor) -> None:
    road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    base = pytest.importorskip("pytorch_grad_cam.metrics.perturbation_confidence")
    asked = some_maps(images)
    shares = (0.2, 0.5, 0.8)
    chosen = FaithfulnessChoices(("road",), shares=shares, noise=0)
    found = faithfulness(explainer.logits, images, asked, chosen)
    model = explainer.model.eval()
    for row, one in enumerate(asked):
        scores = []
        for remove in (base.RemoveLeastRelevantFirst, base.RemoveMostRelevantFirst):
            kept = [
                base.PerturbationConfidenceMetric(remove(100 * (1 - share), road.NoisyLinearImputer(noise=0)))(
                    images[one.image][None], one.map[None].numpy(), [lambda z, c=one.label: z[c].sigmoid()], model
                )
                for share in shares
            ]
            scores.append(np.mean(kept))
        assert found.road[row] == pytest.approx(scores[0] - scores[1], abs=2e-4)
    model.train()


def test_the_planted_driver_beats_random_orders_and_its_opposite_loses() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(12, 3, 32, 32) * 0.2
    low = torch.zeros(12, *GRID)
    for i in range(12):
        y, x = divmod(i % 9, 3)
        pictures[i, :, 8 * y : 8 * y + 16, 8 * x : 8 * x + 16] += 2
        low[i, y : y + 2, x : x + 2] = 1
    maps = upsample(low, (32, 32))

    def sees_bright_parts(x: torch.Tensor) -> torch.Tensor:
        return (functional.avg_pool2d(x.mean(1, keepdim=True), 8).flatten(1).amax(1) * 4 - 4)[:, None]

    chosen = FaithfulnessChoices(steps=10, orders=4, canvas="mean")
    right, wrong = (
        faithfulness(sees_bright_parts, pictures, [MapRequest(i, 0, m, GRID) for i, m in enumerate(some)], chosen)
        for some in (maps, 1 - maps)
    )
    gains = normalised_faithfulness(right.insertion, right.insertion_random, right.p_full, right.p_canvas)
    drops = normalised_faithfulness(right.deletion, right.deletion_random, right.p_full, right.p_blank)
    assert np.nanmin(gains) > 0
    assert np.nanmean(gains) > 0.1
    assert np.nanmean(drops) < -0.15
    assert (right.road > right.road_random + 0.2).all()
    assert (wrong.insertion < right.insertion).all()
    assert (wrong.deletion > right.deletion).all()
    assert (wrong.road < wrong.road_random).all()
    np.testing.assert_array_equal(wrong.insertion_random, right.insertion_random)


def test_maps_that_know_nothing_follow_p_raw_and_not_when_normalised() -> None:
    generator = torch.Generator().manual_seed(0)
    n = 400
    pictures = torch.randn(n, 3, 16, 16, generator=generator) + torch.randn(n, 1, 1, 1, generator=generator) + 1
    maps = upsample(torch.rand(n, *GRID, generator=generator), (16, 16))
    chosen = FaithfulnessChoices(("insertion", "deletion"), steps=10, canvas="mean")
    asked = [MapRequest(i, 0, m, GRID) for i, m in enumerate(maps)]
    found = faithfulness(lambda x: 2 * x.mean((1, 2, 3))[:, None] - 1, pictures, asked, chosen)
    for name, blank in (("insertion", found.p_canvas), ("deletion", found.p_blank)):
        raw, chance = getattr(found, name), getattr(found, f"{name}_random")
        normalised = normalised_faithfulness(raw, chance, found.p_full, blank)
        defined = ~np.isnan(normalised)
        assert defined.sum() > 300
        assert np.corrcoef(raw, found.p_full)[0, 1] > 0.9
        # Two standard errors of a correlation of 0.
        assert abs(np.corrcoef(normalised[defined], found.p_full[defined])[0, 1]) < 2 / np.sqrt(defined.sum())


@pytest.mark.slow
def test_an_empty_map_is_one_more_random_order(explainer: Explainer, images: torch.Tensor) -> None:
    empty = [MapRequest(0, c, torch.zeros(32, 24), GRID) for c in (0, 1)]
    chosen = FaithfulnessChoices(steps=5, orders=1)
    drawn = []
    for seed in range(60):
        found = faithfulness(explainer.logits, images, empty, dataclasses.replace(chosen, seed=seed))
        drawn.append([[getattr(found, name), getattr(found, f"{name}_random")] for name in MEASURES])
    one, other = np.moveaxis(np.array(drawn), 2, 0).reshape(2, 60, -1)
    spread = np.sqrt((one.var(axis=0) + other.var(axis=0)) / 60)
    assert (spread > 0).all()
    assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 4 * spread).all()


@pytest.mark.parametrize("batch_size", [1, 6, 500])
def test_neither_batches_nor_company_change_a_map(explainer: Explainer, images: torch.Tensor, batch_size: int) -> None:
    asked, chosen = some_maps(images), FaithfulnessChoices(steps=5, orders=2)
    together = faithfulness(explainer.logits, images, asked, chosen, batch_size=batch_size)
    for row, one in enumerate(asked):
        alone = dataclasses.replace(one, image=0)
        found = faithfulness(explainer.logits, images[one.image][None], [alone], chosen)
        for name in Faithfulness.__dataclass_fields__:
            assert getattr(together, name)[row] == pytest.approx(getattr(found, name)[0], abs=1e-5), name


def test_the_ends_are_what_the_model_says(explainer: Explainer, images: torch.Tensor) -> None:
    asked = some_maps(images)
    found = faithfulness(explainer.logits, images, asked, FaithfulnessChoices(("deletion",), steps=2))
    whole, blank = explainer(images, [[], []]).logits, explainer.logits(torch.zeros_like(images))
    for row, one in enumerate(asked):
        assert found.p_full[row] == pytest.approx(float(whole[one.image, one.label].sigmoid()), abs=1e-6)
        assert found.p_blank[row] == pytest.approx(float(blank[one.image, one.label].sigmoid()), abs=1e-6)
    assert np.isnan(found.p_canvas).all()
    exclusive = faithfulness(explainer.logits, images, asked, FaithfulnessChoices(("deletion",)), exclusive=True)
    assert exclusive.p_full[0] == pytest.approx(float(whole[0].softmax(0)[2]), abs=1e-6)


def test_classes_that_are_several_outputs(images: torch.Tensor) -> None:
    model = timm.create_model("test_resnet", num_classes=5)
    mapped = Explainer(model, class_map=[[0, 4], [1]])
    outputs = model.eval()(images)
    expected = torch.stack([outputs[:, [0, 4]].amax(1), outputs[:, 1]], 1)
    np.testing.assert_allclose(mapped.logits(images), expected.detach(), atol=1e-6)


def test_the_model_is_restored(explainer: Explainer, images: torch.Tensor) -> None:
    model, before = explainer.model, {k: v.clone() for k, v in explainer.model.state_dict().items()}
    grads = [p.requires_grad for p in model.parameters()]
    state = torch.get_rng_state()
    copy = images.clone()
    faithfulness(explainer.logits, images, some_maps(images), FaithfulnessChoices(steps=3))
    assert all(module.training for module in model.modules())
    assert torch.is_grad_enabled()
    assert grads == [p.requires_grad for p in model.parameters()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(copy, images)
    broken = Explainer(timm.create_model("test_resnet", num_classes=4))
    broken.model.forward = broken.model.forward_features
    with pytest.raises(ViceError, match="must return logits"):
        faithfulness(broken.logits, images, some_maps(images))
    assert broken.model.training


def test_memory_that_does_not_hold_a_batch(explainer: Explainer, images: torch.Tensor) -> None:
    asked, chosen = some_maps(images), FaithfulnessChoices(("deletion",), steps=6)
    sizes = []

    def small(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 4:
            raise torch.OutOfMemoryError("no room")
        return explainer.logits(x)

    with pytest.warns(UserWarning, match="Out of GPU memory"):
        found = faithfulness(small, images, asked, chosen, batch_size=16)
    expected = faithfulness(explainer.logits, images, asked, chosen)
    np.testing.assert_allclose(found.deletion, expected.deletion, atol=1e-6)
    assert sum(size > 4 for size in sizes) <= 3  # later batches begin small

    def none(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    with pytest.warns(UserWarning, match="Out of GPU"), pytest.raises(ViceError, match="one image"):
        faithfulness(none, images, asked, chosen)


def test_the_edges(explainer: Explainer, images: torch.Tensor) -> None:
    assert faithfulness(explainer.logits, images, []).insertion.shape == (0,)
    with pytest.raises(ViceError, match=r"the size of the images, \(32, 24\), but has \(4, 4\)"):
        faithfulness(explainer.logits, images, [MapRequest(0, 0, torch.zeros(4, 4), GRID)])
    with pytest.raises(ViceError, match="0 to 3"):
        faithfulness(explainer.logits, images, [MapRequest(0, 4, torch.zeros(32, 24), GRID)])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"measures": ("insertoin",)}, "Did you mean `insertion`"),
        ({"measures": ()}, "but is empty"),
        ({"canvas": "grey"}, "`canvas` must be mean or blur"),
        ({"steps": 1}, "`steps` must be at least 2"),
        ({"orders": 0}, "`orders` at least 1"),
        ({"shares": (0.5, 1.0)}, "between 0 and 1"),
        ({"noise": -1}, "`noise` a finite number from 0"),
    ],
)
def test_choices_that_are_wrong(wrong: dict, said: str) -> None:
    with pytest.raises(ViceError, match=said):
        FaithfulnessChoices(**wrong)


def test_choices_as_plain_values_and_as_texts() -> None:
    assert FaithfulnessChoices(("road",)).to_dict()["measures"] == ["road"]
    texts = ["deletion", "road", "steps=8", "shares=0.25+0.5", "noise=0", "blank=blur", "deletion"]
    expected = FaithfulnessChoices(("deletion", "road"), steps=8, shares=(0.25, 0.5), noise=0, blank="blur")
    assert FaithfulnessChoices.parse(texts) == expected
    assert FaithfulnessChoices.parse(["orders=2"]).measures == MEASURES
    with pytest.raises(ViceError, match="Did you mean `steps`"):
        FaithfulnessChoices.parse(["step=3"])
    with pytest.raises(ViceError, match="`steps` must be a number, but is 'many'"):
        FaithfulnessChoices.parse(["steps=many"])
