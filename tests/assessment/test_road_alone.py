"""ROAD without deletion: it is normalised by the blank image's probability, in new tables and in completed ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import torchvice
from small_networks import moving_resnet
from torchvice import Samples, ViceError
from torchvice.assessment import Part
from torchvice.data import VocDataset
from torchvice.data.digits import write_digits
from torchvice.explain import FaithfulnessChoices
from torchvice.samples import ShardFolder

ROAD = FaithfulnessChoices(("road",), shares=(0.5,), orders=2)
PIXELS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "view_size": 64, "batch_size": 4}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "set"
    write_digits(root, train=2, val=2, test=7, size=48)
    return VocDataset(root, "test")


@pytest.fixture(scope="module")
def model():
    return moving_resnet()


def assess(model, dataset, out, **more):
    options = {"protocols": ("strict",), "shard_size": 3, "controls": False, "without": None, **PIXELS}
    return torchvice.assess(model, dataset, out=out, **options, **more)


def as_before(folder):
    """Take the blank images' p from a table, as in tables of earlier versions."""
    shards = ShardFolder(folder)
    for number in shards.shards():
        regions = shards.regions(number, None)
        shards.amend(number, replace(regions, p_blank=np.full_like(regions.p_blank, np.nan)))


def test_a_table_with_road_alone_has_the_quality_road(model, dataset, tmp_path):
    found = assess(model, dataset, tmp_path / "road", faithfulness=ROAD)
    both = FaithfulnessChoices(("deletion", "road"), steps=2, shares=(0.5,), orders=2)
    expected = assess(model, dataset, tmp_path / "both", faithfulness=both)
    for column in ("road", "road_random", "p_full", "p_blank"):
        mine, theirs = (getattr(one.of_explanation("strict:cam"), column) for one in (found, expected))
        assert np.isfinite(mine).any()
        np.testing.assert_allclose(mine, theirs, atol=1e-5, err_msg=column)
    numbers = [torchvice.measure(one, replicates=0, quality="road").strict["vice"] for one in (found, expected)]
    assert np.isfinite(numbers[0])
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


def test_a_table_of_an_earlier_version_is_completed_by_the_same_command(model, dataset, tmp_path):
    whole = assess(model, dataset, tmp_path, faithfulness=ROAD)
    as_before(tmp_path)
    with pytest.raises(ViceError, match=r"(?s)probability of blank images.*completes the table"):
        torchvice.measure(assess(model, dataset, tmp_path), replicates=0, quality="road")  # unasked, nothing is done
    told = []
    found = assess(model, dataset, tmp_path, faithfulness=ROAD, progress=lambda *step: told.append(step))
    assert told[0][0] < told[-1][0] == told[-1][1]
    np.testing.assert_allclose(found.regions.p_blank, whole.regions.p_blank, atol=1e-6)
    np.testing.assert_allclose(Samples.load(tmp_path).regions.road, whole.regions.road, atol=1e-6)
    told.clear()
    assess(model, dataset, tmp_path, faithfulness=ROAD, progress=lambda *step: told.append(step))
    assert len(told) == 1  # nothing is done twice


def test_parts_complete_a_table_together(model, dataset, tmp_path):
    assess(model, dataset, tmp_path, faithfulness=ROAD)
    as_before(tmp_path)
    for index in range(2):
        assess(model, dataset, tmp_path, faithfulness=ROAD, part=Part(index, 2))
    regions = Samples.load(tmp_path).regions
    assert np.isfinite(regions.p_blank[~np.isnan(regions.road)]).all()


class Standardised(torch.nn.Module):
    """Divides every image by its own standard deviation, as some networks do: NaN for an image of one colour."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        middle, spread = (how(images, dim=(1, 2, 3), keepdim=True) for how in (torch.mean, torch.std))
        return self.network((images - middle) / spread)


def test_parts_complete_a_table_whose_blank_images_give_nan(model, dataset, tmp_path):
    network, told = Standardised(model), []
    options = {"faithfulness": ROAD, "layer": "network.layer4"}
    for index in range(2):
        assess(network, dataset, tmp_path, part=Part(index, 2), **options)
    found = Samples.load(tmp_path)
    assert found.manifest["finished"]
    assert np.isnan(found.regions.p_blank).all()
    assert np.isfinite(found.regions.road).any()
    assess(network, dataset, tmp_path, progress=lambda *step: told.append(step), **options)
    assert len(told) == 1  # nothing is done twice
    as_before(tmp_path)
    for index in range(2):
        assess(network, dataset, tmp_path, part=Part(index, 2), **options)
    assert Samples.load(tmp_path).manifest["finished"]  # a table of an earlier version, too
