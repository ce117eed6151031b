"""Images that several models share: read once, in bounded memory, and the rows are those of `assess`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch

from torchvice.assessment import Extras, MapSettings, assess
from torchvice.assessment.many import SHARD_SIZE, assess_with
from torchvice.assessment.reads import Reads
from torchvice.errors import ViceError
from torchvice.samples import Samples

SIZE = 24


class Drawn:
    """Images of (24 + i, 24) pixels in memory, of two classes."""

    classes = ("a", "b")

    def __init__(self, count):
        self.records = [SimpleNamespace(image_id=f"i{i}") for i in range(count)]
        self.targets = np.eye(2, dtype=np.uint8)[np.arange(count) % 2]
        self.read = []

    def image(self, index):
        self.read.append(index)
        return np.random.default_rng(index).integers(0, 256, (SIZE + index % 3, SIZE, 3), dtype=np.uint8)

    def mask(self, index):
        mask = np.zeros((SIZE + index % 3, SIZE), np.uint8)
        mask[4:12, 4:16] = index % 2 + 1
        return mask


def network(seed):
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=2)


def assessed(reads, seed, out, block=None, **changed):
    given = {"protocols": ("strict",), "settings": MapSettings(view_size=32, crop=32, device="cpu")}
    given |= {"extras": Extras(), "tell": lambda sentence: None}
    return assess_with(reads, network(seed), out, block=block, **(given | changed))


def test_an_image_is_read_once_for_all_models_and_the_table_is_that_of_assess(tmp_path):
    data = Drawn(9)
    reads = Reads(data, 1 << 20)
    data.read.clear()
    for seed in range(2):
        made = assessed(reads, seed, tmp_path / f"{seed}")
        assert (made.images, made.finished, made.batch_size) == (9, True, 32)
    assert sorted(data.read) == list(range(9))
    assert reads.decoded == 9
    for seed in range(2):
        settings = MapSettings(view_size=32, crop=32, device="cpu")
        alone = assess(network(seed), Drawn(9), out=tmp_path / f"alone{seed}", protocols=("strict",), settings=settings)
        assert len(alone.regions.image_id)
        for path in (tmp_path / f"alone{seed}").iterdir():
            assert path.read_bytes() == (tmp_path / f"{seed}" / path.name).read_bytes(), path.name


def test_both_protocols_controls_and_replaced_pixels_are_the_same_with_shared_images(tmp_path):
    extras = Extras.of(("random", "shuffled"), ("mirror",), without="object")
    reads = Reads(Drawn(6), 1 << 20)
    assessed(reads, 0, tmp_path / "shared", protocols=("paper", "strict"), extras=extras)
    assessed(reads, 0, tmp_path / "again", protocols=("paper", "strict"), extras=extras)
    settings = MapSettings(view_size=32, crop=32, device="cpu")
    assess(network(0), Drawn(6), out=tmp_path / "alone", settings=settings, extras=extras)
    for path in (tmp_path / "alone").iterdir():
        assert path.read_bytes() == (tmp_path / "shared" / path.name).read_bytes(), path.name
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_memory_is_bounded_and_what_does_not_fit_is_read_again():
    data = Drawn(9)
    one = data.image(0).nbytes + data.mask(0).nbytes
    reads = Reads(data, 3 * one)
    for index in (*range(9), *range(9)):
        image, region = reads.read(index)
        np.testing.assert_array_equal(image, data.image(index))
        np.testing.assert_array_equal(region.mask, data.mask(index))
    kept = sum(image.nbytes + region.mask.nbytes for image, region in reads._kept.values())
    assert 0 < kept <= 3 * one
    assert reads._bytes == kept
    assert reads.decoded == 9 + 9 - len(reads._kept)


def test_inputs_of_a_size_are_kept_until_another_size_needs_their_room():
    data = Drawn(4)
    room = sum(data.image(i).nbytes + data.mask(i).nbytes for i in range(4))
    reads = Reads(data, room + 4 * 3 * 16**2)
    images = [reads.read(index)[0] for index in range(4)]
    first = reads.warp_all(images, [(16, 16)] * 4, "bilinear")
    assert all(a is b for a, b in zip(first, reads.warp_all(images, [(16, 16)] * 4, "bilinear"), strict=True))
    assert reads.warp_all(images, [(16, 16)] * 4, "bicubic")[0] is not first[0]
    assert reads._bytes <= reads.memory
    again = reads.warp_all(images, [(16, 16)] * 4, "bilinear")
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    strange = np.zeros((5, 5, 3), np.uint8)  # of no image that is kept
    assert reads.warp_all([strange], [(5, 5)], "bilinear")[0] is strange
    reads.start(range(2, 4))
    assert set(reads._kept) == {2, 3}
    reads.start(range(0))
    assert reads._bytes == 0


def test_blocks_are_whole_shards_and_together_make_the_table(tmp_path):
    count = 2 * SHARD_SIZE + 5
    data = Drawn(count)
    whole = Reads(data, 1 << 30)
    assert whole.blocks(SHARD_SIZE, 32) == [range(count)]
    reads = Reads(data, 1 << 19)
    blocks = reads.blocks(SHARD_SIZE, 32)
    assert [index for block in blocks for index in block] == list(range(count))
    assert len(blocks) > 1
    assert all(len(block) % SHARD_SIZE == 0 for block in blocks[:-1])
    assessed(whole, 0, tmp_path / "whole")
    for number, block in enumerate(blocks, 1):
        reads.start(block)
        made = assessed(reads, 0, tmp_path / "blocks", block)
        assert made.finished == (number == len(blocks))
        assert made.images == block.stop
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "blocks" / path.name).read_bytes(), path.name
    assert len(Samples.load(tmp_path / "blocks").images.image_id) == count


def test_what_cannot_be_read_is_remembered_as_no_fault_of_a_model(tmp_path):
    data = Drawn(3)
    reads = Reads(data, 1 << 20)
    data.mask = lambda index: np.full((2, 2), 1, np.uint8)
    with pytest.raises(ViceError, match="like its image"):
        assessed(reads, 0, tmp_path / "t")
    assert isinstance(reads.error, ViceError)
