"""Filling: removed pixels have no influence, kept pixels stay to the bit, and the colours are those of the rest."""

from typing import get_args

import numpy as np
import pytest
import torch

from torchvice import ViceError
from torchvice.data.filling import Filling, InterventionChoices, dilated, filled
from torchvice.measures.catalogue import FILLED_BY
from torchvice.samples import FILLINGS

WAYS = ("blur", "mean", "noise", "background")


def test_every_filling_has_a_column_and_words():
    assert get_args(Filling) == FILLINGS == tuple(FILLED_BY)


def scene(seed=0, n=3, size=(13, 10)):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, *size, generator=generator)
    gone = torch.rand(n, 1, *size, generator=generator) < 0.4
    more = {name: torch.randn(n, 3, *size, generator=generator) for name in ("noise", "other")}
    return images, gone, more


@pytest.mark.parametrize("how", WAYS)
def test_what_is_gone_has_no_influence_and_the_rest_stays(how):
    images, gone, more = scene()
    changed = torch.where(gone, torch.tensor(float("nan")), images)
    first, second = (filled(each, gone, how, **more) for each in (images, changed))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    kept = (~gone).expand_as(images)
    assert torch.equal(first[kept], images[kept])


@pytest.mark.parametrize("how", WAYS)
def test_an_image_does_not_depend_on_its_batch(how):
    images, gone, more = scene()
    whole = filled(images, gone, how, **more)
    for row in range(len(images)):
        one = slice(row, row + 1)
        alone = filled(images[one], gone[one], how, **{name: value[one] for name, value in more.items()})
        torch.testing.assert_close(alone, whole[one], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 8), (13, 10), (224, 60)])
def test_blur_continues_a_constant_and_stays_within_the_colours(size):
    gone = torch.zeros(1, 1, *size, dtype=torch.bool)
    gone[..., : size[0] // 2 + 1, : size[1] // 2] = True
    constant = torch.full((1, 3, *size), 0.7)
    torch.testing.assert_close(filled(constant, gone, "blur"), constant, rtol=0, atol=1e-6)
    images = torch.rand(1, 3, *size)
    result = filled(images, gone, "blur")
    left = images[(~gone).expand_as(images)].reshape(3, -1)
    assert (result.reshape(3, -1) <= left.max() + 1e-6).all()
    assert (result.reshape(3, -1) >= left.min() - 1e-6).all()


def test_blur_follows_a_ramp_across_a_gap():
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64).clone()
    gone = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    gone[..., 28:36, 28:36] = True
    assert (filled(ramp, gone, "blur") - ramp).abs().max() < 0.1


def test_mean_and_noise_by_hand():
    images = torch.tensor([[[[1.0, 3.0, 100.0]]]])
    gone = torch.tensor([[[[False, False, True]]]])
    assert filled(images, gone, "mean")[0, 0, 0].tolist() == [1, 3, 2]
    noise = torch.tensor([[[[9.0, 9.0, -2.0]]]])
    assert filled(images, gone, "noise", noise=noise)[0, 0, 0].tolist() == [1, 3, 0]  # 2 - 2 * 1


@pytest.mark.parametrize("how", WAYS)
def test_the_colours_of_padding_do_not_count(how):
    images, gone, more = scene()
    shown = torch.zeros(3, 1, 13, 10, dtype=torch.bool)
    shown[..., 3:9, :] = True
    gone &= shown
    other = torch.where(shown, images, 7.0)
    first, second = (filled(each, gone, how, shown=shown, **more) for each in (images, other))
    assert torch.equal(torch.where(gone, first, 0), torch.where(gone, second, 0))
    assert torch.equal(first[(~gone).expand_as(images)], images[(~gone).expand_as(images)])
    everything = torch.ones_like(gone)
    assert torch.equal(filled(images, gone, how, shown=everything, **more), filled(images, gone, how, **more))


@pytest.mark.parametrize("how", ["blur", "mean", "noise"])
def test_where_nothing_is_left_there_is_nothing(how):
    images, _, more = scene()
    result = filled(images, torch.ones(3, 1, 13, 10, dtype=torch.bool), how, **more)
    assert torch.equal(result, torch.zeros_like(images))


def test_dilation_is_a_square_and_stays_in_the_image():
    mask = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    mask[0, 0, 0, 3] = True
    expected = np.zeros((7, 7), bool)
    expected[:3, 1:6] = True
    assert np.array_equal(dilated(mask, 2)[0, 0].numpy(), expected)
    assert dilated(mask, 0) is mask


def test_choices_are_read_and_refused():
    choices = InterventionChoices.parse(["background", "object", "filling=noise", "dilation=2", "sigma=.1", "seed=3"])
    assert choices == InterventionChoices(("background", "object"), "noise", 2, 0.1, 3)
    assert InterventionChoices(**{**choices.to_dict(), "treatments": ("background", "object")}) == choices
    for texts, message in {
        ("objects",): "`without` must be one or more of object, background, patch, noise, but is 'objects'",
        ("filling=blurr",): "`filling` must be one of blur, mean, noise, background, but is 'blurr'",
        ("fill=blur",): "Unknown setting of `without`: 'fill'",
        ("dilation=x",): "`dilation` must be a number, but is 'x'",
        ("dilation=-1",): "`dilation` must be at least 0",
        ("sigma=nan",): "`sigma` a finite number above 0",
        ("void=rim",): "`void` must be one of nearest, touching, but is 'rim'",
    }.items():
        with pytest.raises(ViceError, match=message):
            InterventionChoices.parse(texts)


def test_a_dilation_beyond_the_image_covers_it_at_once() -> None:
    mask = torch.zeros(1, 1, 6, 9, dtype=torch.bool)
    mask[..., 0, 0] = True
    assert dilated(mask, 10**9).all()
    assert torch.equal(dilated(mask, 10**9), dilated(mask, 9))
