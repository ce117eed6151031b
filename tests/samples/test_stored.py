"""Columns that stay on disk until they are asked for."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tables import scenes, table_of
from torchvice.errors import ViceError
from torchvice.measures import measure
from torchvice.samples import Samples, ShardFolder

MADE = scenes(9)
TABLE = table_of(MADE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished table of three shards."""
    shards = ShardFolder(tmp_path / "table")
    shards.start(TABLE.manifest)
    for first in (0, 3, 6):
        part = table_of(MADE[first : first + 3])
        shards.append(part.images, part.regions, part.maps)
    shards.start({**TABLE.manifest, "files": shards.digests()})
    return tmp_path / "table"


def read_columns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The columns of every read of a file from now on."""
    found: list[tuple[str, ...]] = []
    original = pq.ParquetFile.read_row_groups

    def noted(self, groups, columns, **more):  # type: ignore[no-untyped-def]
        found.append(tuple(columns))
        return original(self, groups, columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    return found


def test_every_measure_is_that_of_the_table_in_memory(folder: Path) -> None:
    assert measure(Samples.load(folder)).to_json() == measure(TABLE).to_json()


@pytest.mark.parametrize("name", ["label", "predicted", "inside", "pointing", "without_object", "peak_features"])
def test_any_rows_in_any_order(folder: Path, name: str) -> None:
    table = Samples.load(folder)
    whole = getattr(Samples.load(folder).regions, name)
    rng = np.random.default_rng(0)
    for rows in (rng.permutation(len(whole))[:7], np.array([5, 5, 0]), np.zeros(0, np.int64), np.arange(3) - 3):
        np.testing.assert_array_equal(getattr(table.regions.where(rows), name), whole[rows])
        np.testing.assert_array_equal(getattr(table.regions.where(rows).where(slice(0, 2)), name), whole[rows][:2])
    chosen = whole[:, 0] > np.median(whole) if whole.ndim == 2 else table.regions.label > 0
    np.testing.assert_array_equal(getattr(table.regions.where(chosen), name), whole[chosen])


def test_what_is_not_asked_for_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Samples.load(folder)
    found = read_columns(monkeypatch)
    part = table.of_protocol("strict")
    assert part.regions.predicted.shape == part.regions.intersection.shape
    assert {name for names in found for name in names} == {"predicted", "intersection"}
    empty = part.regions.emptied("inside", "outside")
    assert empty.inside.shape == (len(empty), 0)
    assert not any("inside" in names for names in found)
    before = part.regions.inside
    part.regions.release("inside")
    assert part.regions.inside is not before
    np.testing.assert_array_equal(part.regions.inside, before)
    TABLE.regions.release("inside")
    assert TABLE.regions.inside.shape[1] > 0


def test_rows_of_an_explanation_lie_together(folder: Path) -> None:
    for path in folder.glob("regions-*.parquet"):
        file = pq.ParquetFile(path)
        groups = [
            file.read_row_group(at, ["explanation"])["explanation"].to_pylist() for at in range(file.num_row_groups)
        ]
        assert all(len(set(group)) == 1 for group in groups)
        assert len({group[0] for group in groups}) == len(groups)


def test_a_table_with_one_group_of_rows_is_read_as_well(folder: Path) -> None:
    """As earlier versions wrote it."""
    expected = measure(Samples.load(folder)).to_json()
    for path in folder.glob("*.parquet"):
        pq.write_table(pq.read_table(path), path, write_page_checksum=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": ShardFolder(folder).digests()}))
    assert measure(Samples.load(folder)).to_json() == expected


def test_a_file_that_changes_while_the_table_is_read_is_refused(folder: Path) -> None:
    table = Samples.load(folder)
    path = sorted(folder.glob("regions-*.parquet"))[1]
    pq.write_table(pq.read_table(path), path, write_page_checksum=True)
    with pytest.raises(
        ViceError, match=rf"{path.name} must be readable, but is not: it was changed while the table was"
    ):
        _ = table.regions.predicted


def test_a_pickled_table_needs_no_disk(folder: Path) -> None:
    sent = pickle.dumps(Samples.load(folder).regions)
    expected = Samples.load(folder).regions.predicted
    for path in folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(pickle.loads(sent).predicted, expected)


def test_a_column_that_is_none_is_no_attribute(folder: Path) -> None:
    with pytest.raises(AttributeError, match="'Regions' has no attribute 'heat'"):
        _ = Samples.load(folder).regions.heat


def test_to_others_it_is_the_plain_part(folder: Path) -> None:
    found = Samples.load(folder)
    for part in (found.images, found.regions, found.maps):
        assert isinstance(part, part.__class__)
        assert list(vars(part)) == [column.name for column in dataclasses.fields(part)]
        plain = dataclasses.replace(part, image_id=part.image_id[::-1])
        assert type(plain) is part.__class__
        np.testing.assert_array_equal(plain.image_id[::-1], part.image_id)
        assert plain.explanation is part.explanation if hasattr(part, "explanation") else plain.logits is part.logits
