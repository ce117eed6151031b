"""Measures from the shards as a stream: the numbers of `measure`, and what is said of a table that has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tables import scenes, table_of
from torchvice.errors import ViceError
from torchvice.measures import measure, stream
from torchvice.measures.protocols import paper_ji
from torchvice.measures.stream import stream_measures
from torchvice.metrics import confidence, rank_correlation, reliability, sample_accuracy, sample_loss, sigmoid
from torchvice.samples import Samples, ShardFolder
from variants import slow_but


def assessed(count: int, seed: int = 0, unmasked: int = 2, halves: bool = False) -> Samples:
    """A table with the derived columns of `paper`, as assess makes them; the rows of `strict` hold other numbers.

    `halves`: with probabilities of exactly one half, of which these scenes have many.
    """
    samples = table_of(scenes(count, seed, unmasked=unmasked))
    images, regions = samples.images, samples.of_explanation("paper:cam")
    if not halves:
        images = replace(images, logits=np.where(images.logits == 0, np.float32(0.25), images.logits))
    p = sigmoid(images.logits)
    columns = {
        "loss": sample_loss(images.logits, images.targets),
        "confidence": confidence(p),
        "accuracy": sample_accuracy(p > 0.5, images.targets),
    }
    ji = np.full(len(images), 0.123)
    paper = images.view == "crop"
    ji[paper] = paper_ji(samples, images.where(paper), regions)
    return replace(samples, images=replace(images, ji=ji, **columns))


def written(samples: Samples, folder: Path, shards: int) -> Path:
    """The table in several shards, an image whole in one of them."""
    target = ShardFolder(folder)
    target.start(samples.manifest)
    names = np.unique(samples.images.image_id.astype(str))
    for part in np.array_split(names, shards):
        target.append(*(each.where(np.isin(each.image_id.astype(str), part))
                        for each in (samples.images, samples.regions, samples.maps)))  # fmt: skip
    return folder


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("seed", slow_but(range(6), 0, 1))
def test_the_numbers_of_measure(tmp_path: Path, shards: int, seed: int) -> None:
    samples = assessed(40, seed)
    found, expected = stream_measures(written(samples, tmp_path, shards)), measure(samples)
    images = samples.of_view("crop")
    assert (found.images, found.masked) == (40, int(images.has_mask.sum()))
    for name in ("vice", "ece_ml"):
        value = expected.paper[name]
        assert getattr(found, name) == pytest.approx(value, abs=1e-14, nan_ok=True)
        assert (name in found.undefined) == np.isnan(value)
    loss, ji = images.loss[images.has_mask], images.ji[images.has_mask]
    rank = np.nan if np.isnan(ji).any() else stats.spearmanr(-loss, ji).statistic
    assert found.spearman == pytest.approx(rank, abs=1e-14, nan_ok=True)


def defined(seed: int = 0) -> Samples:
    """A table where every JI and accuracy of `paper` is defined."""
    for start in range(seed, seed + 200):
        samples = assessed(12, start)
        paper = measure(samples).paper
        if not np.isnan([paper["vice"], paper["ece_ml"]]).any():
            return samples
    raise AssertionError("no such table")


def test_equal_to_the_last_bit_where_nothing_is_rounded_twice(tmp_path: Path) -> None:
    samples = defined()
    found, expected = stream_measures(written(samples, tmp_path, 3)), measure(samples)
    assert found.ece_ml == expected.paper["ece_ml"]
    assert found.vice == pytest.approx(expected.paper["vice"], abs=1e-15)
    assert found.undefined == {}


def test_a_probability_of_one_half_is_the_known_difference(tmp_path: Path) -> None:
    samples = assessed(40, 1, halves=True)
    images = samples.of_view("crop")
    assert (images.logits == 0).any()
    found = stream_measures(written(samples, tmp_path, 3))
    assert found.ece_ml == reliability(images.confidence, images.accuracy).ece
    assert found.ece_ml != measure(samples).paper["ece_ml"]


def test_without_ranks(tmp_path: Path) -> None:
    found = stream_measures(written(defined(), tmp_path, 2), spearman=False)
    assert np.isnan(found.spearman)
    assert found.undefined == {"spearman": "It was not requested."}


def test_ranks_that_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = written(defined(), tmp_path / "table", 3)
    expected = stream_measures(table)
    monkeypatch.setattr(stream, "IN_MEMORY", 2)
    assert stream_measures(table, temporary=tmp_path) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    with pytest.raises(ViceError, match="nowhere"):
        stream_measures(table, temporary=tmp_path / "nowhere")


def test_a_disk_without_room_for_the_ranks_is_no_undefined_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = written(defined(), tmp_path / "table", 3)
    assert ShardFolder(table).rows("images") == 24  # of two views
    monkeypatch.setattr(stream, "IN_MEMORY", 2)
    monkeypatch.setattr(rank_correlation, "BYTES", 10**15)
    with pytest.raises(ViceError, match=r"The ranks of 12 rows need 1\.2e\+07 GB"):
        stream_measures(table, temporary=tmp_path)


def test_undefined_is_counted_and_reasoned(tmp_path: Path) -> None:
    samples = defined()
    ji, accuracy = samples.images.ji.copy(), samples.images.accuracy.copy()
    row = np.flatnonzero((samples.images.view == "crop") & samples.images.has_mask)[0]
    ji[row], accuracy[row] = np.nan, np.nan
    changed = Samples(
        samples.manifest, replace(samples.images, ji=ji, accuracy=accuracy), samples.regions, samples.maps
    )
    found = stream_measures(written(changed, tmp_path, 2))
    assert np.isnan([found.vice, found.spearman, found.ece_ml]).all()
    assert found.undefined["vice"].startswith(f"The JI of 1 of {found.masked} images is undefined")
    assert "0/0" in found.undefined["ece_ml"]


def test_too_few_and_none(tmp_path: Path) -> None:
    found = stream_measures(written(assessed(2, unmasked=0), tmp_path / "two", 1))
    assert "at least three" in found.undefined["vice"]
    empty = ShardFolder(tmp_path / "empty")
    empty.start(defined().manifest)
    with pytest.raises(ViceError, match="no shard of it is finished"):
        stream_measures(empty.folder)
    strict = defined()
    manifest = {**strict.manifest, "protocols": {"strict": strict.manifest["protocols"]["strict"]}}
    with pytest.raises(ViceError, match="not assessed under it"):
        stream_measures(written(replace(strict, manifest=manifest), tmp_path / "strict", 1))


def test_a_lost_shard_is_refused_as_by_the_whole_table(tmp_path: Path) -> None:
    samples = defined()
    folder = ShardFolder(written(samples, tmp_path, 3))
    folder.start({**samples.manifest, "files": folder.digests()})
    (tmp_path / "images-00001.parquet").unlink()
    for read in (Samples.load, stream_measures):
        with pytest.raises(ViceError, match=r"must hold images-00001\.parquet, which its manifest lists, but does not"):
            read(tmp_path)


# ---- the stream


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_a_stream_is_the_table_in_pieces(tmp_path: Path, rows: int) -> None:
    samples = table_of(scenes(20))
    folder = ShardFolder(written(samples, tmp_path, 3))
    whole = Samples.load(tmp_path)
    for part, columns in (("images", ["loss", "logits", "image_id", "has_mask"]), ("regions", ["inside", "label"])):
        batches = list(folder.stream(part, columns, rows=rows))
        assert max(len(batch[columns[0]]) for batch in batches) <= rows
        for name in columns:
            joined = np.concatenate([batch[name] for batch in batches])
            np.testing.assert_array_equal(joined, getattr(getattr(whole, part), name))
            assert joined.dtype == getattr(getattr(whole, part), name).dtype
    of_view = [batch["image_id"] for batch in folder.stream("images", ["image_id"], view="warp", rows=rows)]
    np.testing.assert_array_equal(np.sort(np.concatenate(of_view)), whole.of_view("warp").image_id)


def test_a_stream_refuses_what_is_not_there(tmp_path: Path) -> None:
    folder = ShardFolder(written(defined(), tmp_path, 2))
    with pytest.raises(ViceError, match="must be 'images' or 'regions'"):
        next(folder.stream("maps", ["map"]))
    with pytest.raises(ViceError, match="`los` is no column of the images") as caught:
        next(folder.stream("images", ["los"]))
    assert "`loss`" in caught.value.way_out


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    samples = table_of(scenes(40))
    path = written(samples, tmp_path, 2) / "images-00001.parquet"
    content = bytearray(path.read_bytes())
    place = content.find(np.float64(samples.images.loss[-1]).tobytes())
    content[place if place > 0 else 200] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ViceError, match=r"images-00001\.parquet must be readable, but is not"):
        list(ShardFolder(tmp_path).stream("images", ["loss", "ji", "confidence", "accuracy", "image_id"]))
