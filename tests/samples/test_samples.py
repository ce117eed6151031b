"""samples: the table in memory, and on disk where shards are whole or not there."""

from __future__ import annotations

import copy
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tables import scenes, table_of
from torchvice import samples as module
from torchvice.errors import ViceError
from torchvice.samples import Images, Maps, Regions, Samples, ShardFolder

TABLE = table_of(scenes(6))


def ordered(part: Any) -> Any:
    """The rows by explanation, image and label."""
    return part.where(np.lexsort((part.label, part.image_id.astype(str), part.explanation.astype(str))))


def same(found: Samples, expected: Samples) -> None:
    """Every column with its values, shapes and types; NaN equals NaN. Rows may lie in another order."""
    found, expected = (replace(one, regions=ordered(one.regions), maps=ordered(one.maps)) for one in (found, expected))
    for part in ("images", "regions", "maps"):
        for name, column in vars(getattr(expected, part)).items():
            back = getattr(getattr(found, part), name)
            assert back.shape == column.shape, name
            assert back.dtype == column.dtype, name
            if name == "map":
                pairs = list(zip(back, column, strict=True))
                assert all(a.dtype == np.float16 and a.tobytes() == b.tobytes() for a, b in pairs)
                assert all(a.shape == b.shape for a, b in pairs)
            else:
                np.testing.assert_array_equal(back, column)


def test_round_trip(tmp_path: Path) -> None:
    assert TABLE.save(tmp_path / "new" / "table") == tmp_path / "new" / "table"
    found = Samples.load(tmp_path / "new" / "table")
    same(found, TABLE)
    assert found.classes == ("cat", "dog", "bus")
    assert found.thresholds.tolist() == [0.0, 0.1, 0.3, 0.5]
    files = ShardFolder(tmp_path / "new" / "table").digests()
    assert sorted(files) == ["images-00000.parquet", "maps-00000.parquet", "regions-00000.parquet"]
    assert dict(found.manifest) == {"schema": 2, **TABLE.manifest, "added": [], "adding": {}, "files": files}
    again = found.save(tmp_path / "again")  # read from the first folder while it is written
    same(Samples.load(again), TABLE)


def test_a_table_with_an_explanation_that_was_added_later_is_saved_and_loaded(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path / "assessed")
    names = list(TABLE.manifest["explanations"])
    later = names[-1]
    parts = {part: getattr(TABLE, part) for part in ("regions", "maps")}
    first = {part: rows.where(rows.explanation != later) for part, rows in parts.items()}
    beside = {part: rows.where(rows.explanation == later) for part, rows in parts.items()}
    folder.start({**TABLE.manifest, "added": [later], "adding": {"strict:random": {"role": "control"}}})
    folder.append(TABLE.images, **first)
    folder.add(0, later, **beside)
    found = Samples.load(tmp_path / "assessed")
    assert len(beside["regions"])
    same(found, TABLE)
    saved = Samples.load(found.save(tmp_path / "saved"))
    same(saved, TABLE)
    assert (saved.manifest["added"], saved.manifest["adding"]) == ([], {})
    assert list(saved.manifest["explanations"]) == names


def test_a_table_is_pickled_without_what_was_computed_of_it(tmp_path: Path) -> None:
    stored = Samples.load(TABLE.save(tmp_path))
    for samples in (TABLE, stored):
        part = samples.of_protocol("strict")
        assert len(part.losses) == len(part.images)
        copied = pickle.loads(pickle.dumps(samples))
        same(copied, TABLE)
        assert set(vars(copied)) == {"manifest", "images", "regions", "maps"}
        assert copied.of_protocol("strict").losses.tolist() == part.losses.tolist()
        assert copy.copy(samples).of_protocol("strict").samples is not samples


def test_every_float_comes_back_bit_for_bit(tmp_path: Path) -> None:
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, np.finfo(np.float32).tiny, 1 / 3], dtype=np.float32)
    images = replace(TABLE.images, logits=np.resize(odd, TABLE.images.logits.shape))
    planes = np.empty(len(TABLE.maps), dtype=object)
    for row in range(len(planes)):  # of their own shapes each: a flipped pair, one pixel, no pixel
        planes[row] = np.resize(odd, [(2, 3, 4), (1, 1), (0, 5), (7, 2)][row % 4]).astype(np.float16)
    maps = replace(TABLE.maps, map=planes)
    replace(TABLE, images=images, maps=maps).save(tmp_path)
    found = Samples.load(tmp_path)
    assert found.images.logits.tobytes() == images.logits.tobytes()
    back, given = ordered(found.maps).map, ordered(maps).map
    assert [plane.tobytes() for plane in back] == [plane.tobytes() for plane in given]
    assert [plane.shape for plane in back] == [plane.shape for plane in given]


@pytest.mark.parametrize("empty", ["regions", "maps", "both", "all"])
def test_parts_without_a_row(tmp_path: Path, empty: str) -> None:
    names = {"both": ("regions", "maps"), "all": ("images", "regions", "maps")}.get(empty, (empty,))
    none = {name: getattr(TABLE, name).where(np.zeros(len(getattr(TABLE, name)), bool)) for name in names}
    expected = replace(TABLE, **none)
    expected.save(tmp_path)
    same(Samples.load(tmp_path), expected)


def test_a_shard_without_a_row_has_the_schema_of_the_others(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path)
    folder.start(TABLE.manifest)
    nothing = [part.where(np.zeros(len(part), bool)) for part in (TABLE.images, TABLE.regions, TABLE.maps)]
    folder.append(*nothing)
    folder.append(TABLE.images, TABLE.regions, TABLE.maps)
    for part in ("images", "regions", "maps"):
        schemas = [pq.read_schema(tmp_path / f"{part}-0000{number}.parquet") for number in (0, 1)]
        assert schemas[0].equals(schemas[1]), part
    same(Samples(*folder.read()), TABLE)


def test_shards_lie_side_by_side(tmp_path: Path) -> None:
    made = scenes(6)
    folder = ShardFolder(tmp_path)
    folder.start(TABLE.manifest)
    for start in range(0, 6, 2):
        part = table_of(made[start : start + 2])
        folder.append(part.images, part.regions, part.maps)
    assert folder.shards() == [0, 1, 2]
    assert folder.finished_images() == {scene.image_id for scene in made}
    same(Samples(*folder.read()), TABLE)


@pytest.mark.parametrize("killed_at", ["regions", "maps", "images"])
def test_a_kill_between_the_files_leaves_no_half_shard(tmp_path: Path, monkeypatch: Any, killed_at: str) -> None:
    made = scenes(6)
    first, second = table_of(made[:3]), table_of(made[3:])
    folder = ShardFolder(tmp_path)
    folder.start(TABLE.manifest)
    folder.append(first.images, first.regions, first.maps)
    replace_file = os.replace

    def killed(source: Any, target: Any) -> None:
        if Path(target).name == f"{killed_at}-00001.parquet":
            raise KeyboardInterrupt
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.append(second.images, second.regions, second.maps)
    assert folder.shards() == [0]
    assert folder.finished_images() == {scene.image_id for scene in made[:3]}
    assert not list(tmp_path.glob(".*"))
    same(Samples(*folder.read()), first)
    # The next run writes the same shard again, over what was left of it.
    folder.append(second.images, second.regions, second.maps)
    assert folder.shards() == [0, 1]
    same(Samples(*folder.read()), TABLE)


def test_files_of_other_names_are_no_shards(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    for name in (".images-00001.a1b2c3d4.part.parquet", "images-1.parquet", "images-00001.parquet.bak"):
        (tmp_path / name).write_bytes(b"half")
    assert ShardFolder(tmp_path).shards() == [0]


@pytest.mark.parametrize("part", ["images", "regions", "maps"])
def test_a_damaged_shard_is_named(tmp_path: Path, part: str) -> None:
    TABLE.save(tmp_path)
    path = tmp_path / f"{part}-00000.parquet"
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no parquet at all"):
        path.write_bytes(damaged)
        with pytest.raises(ViceError, match=f"shard .*{part}-00000") as error:
            Samples.load(tmp_path)
        assert "Delete images-00000.parquet" in error.value.way_out
    path.unlink()
    with pytest.raises(ViceError, match=f"{part}-00000|No finished shard"):
        Samples.load(tmp_path)


def test_a_flipped_bit_is_seen_or_says_nothing(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    path = tmp_path / "images-00000.parquet"
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    seen = 0
    for place in range(4, footer, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            same(Samples.load(tmp_path), TABLE)
        except ViceError:
            seen += 1
    assert seen > (footer - 4) / 7 / 2


def test_a_parquet_of_other_columns_is_refused(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    table = pq.read_table(tmp_path / "images-00000.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps(ShardFolder(tmp_path).manifest() | {"files": {}}))
    pq.write_table(table.rename_columns({"loss": "cost"}), tmp_path / "images-00000.parquet")
    with pytest.raises(ViceError, match="its columns differ in cost, loss"):
        Samples.load(tmp_path)


def test_the_manifest_is_asked_first(tmp_path: Path) -> None:
    with pytest.raises(ViceError, match=r"manifest\.json is missing") as error:
        Samples.load(tmp_path / "absent")
    assert error.value.way_out == "Run vice assess first."
    TABLE.save(tmp_path)
    for written, said in (('{"schema": 1}', "must have schema 2, but .* has schema 1"), ("{", "must be JSON")):
        (tmp_path / "manifest.json").write_text(written)
        with pytest.raises(ViceError, match=said):
            Samples.load(tmp_path)


def test_a_folder_without_a_finished_shard(tmp_path: Path) -> None:
    ShardFolder(tmp_path).start(TABLE.manifest)
    with pytest.raises(ViceError, match="No finished shard"):
        Samples.load(tmp_path)


def test_a_table_is_not_written_over_another(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    with pytest.raises(ViceError, match="already holds a table"):
        TABLE.save(tmp_path)
    same(Samples.load(tmp_path), TABLE)


def test_nothing_on_disk_is_a_pickle(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    for path in tmp_path.iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PAR1"
    assert not {"pickle", "torch"} & vars(module).keys()


def test_views_and_explanations_are_ordered(tmp_path: Path) -> None:
    made = scenes(6)
    shuffled = table_of([made[i] for i in (4, 0, 5, 2, 1, 3)])
    for found, expected in (
        (shuffled.of_view("crop"), TABLE.of_view("crop")),
        (shuffled.of_explanation("strict:cam"), TABLE.of_explanation("strict:cam")),
    ):
        for name, column in vars(expected).items():
            np.testing.assert_array_equal(getattr(found, name), column)
    ids = TABLE.of_view("warp").image_id.tolist()
    assert ids == sorted(ids)
    regions = TABLE.of_explanation("paper:cam")
    keys = list(zip(regions.image_id.tolist(), regions.label.tolist(), strict=True))
    assert keys == sorted(keys)
    assert set(regions.explanation) == {"paper:cam"}


def test_an_unknown_view_or_explanation_is_named() -> None:
    with pytest.raises(ViceError, match=r"one of the table's \(crop, warp\), but is 'crop224'"):
        TABLE.of_view("crop224")
    with pytest.raises(ViceError, match=r"one of the table's \(paper:cam, strict:cam\), but is 'cam'"):
        TABLE.of_explanation("cam")
    none = replace(TABLE, images=TABLE.images.where(np.zeros(len(TABLE.images), bool)))
    with pytest.raises(ViceError, match=r"\(none\)"):
        none.of_view("crop")


def test_parts_are_picked_and_joined_by_rows() -> None:
    for part, kind in ((TABLE.images, Images), (TABLE.regions, Regions), (TABLE.maps, Maps)):
        half = len(part) // 2
        whole = kind.join([part.where(np.arange(half)), part.where(np.arange(len(part)) >= half)])
        assert len(whole) == len(part)
        assert whole.image_id.tolist() == part.image_id.tolist()


def test_to_pandas_is_a_row_an_image_and_view() -> None:
    frame = TABLE.to_pandas()
    assert len(frame) == len(TABLE.images) == 12
    assert frame["targets"].tolist() == [np.flatnonzero(row).tolist() for row in TABLE.images.targets]
    assert np.stack(frame["logits"]).tolist() == TABLE.images.logits.tolist()
    assert {"image_id", "view", "loss", "confidence", "accuracy", "ji", "has_mask"} <= set(frame.columns)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    """A folder may be called anything; an id goes into Parquet, which takes UTF-8 alone."""
    folder = tmp_path / os.fsdecode(b"r\xff")
    TABLE.save(folder)
    same(Samples.load(folder), TABLE)
    odd = replace(TABLE.images, image_id=np.array([os.fsdecode(b"a\xff")] * len(TABLE.images), dtype=object))
    with pytest.raises(ViceError, match="must be UTF-8"):
        replace(TABLE, images=odd).save(tmp_path / "table")


def test_tables_of_earlier_versions_lack_the_interventions(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    path = tmp_path / "regions-00000.parquet"
    table = pq.read_table(path)
    later = [name for name in table.column_names if name in (*module.INTERVENTIONS, "peak_features")]
    pq.write_table(table.drop_columns(later), path, write_page_checksum=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"] = ShardFolder(tmp_path).digests()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    same(Samples.load(tmp_path), TABLE)
    pq.write_table(table.drop_columns(["pointing"]), path, write_page_checksum=True)
    manifest["files"] = ShardFolder(tmp_path).digests()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ViceError, match="its columns differ in pointing"):
        Samples.load(tmp_path)


def test_counts_are_of_32_bits_also_those_of_earlier_tables(tmp_path: Path) -> None:
    counts = ("predicted", "intersection", "inside", "outside")
    assert {getattr(TABLE.regions, name).dtype for name in counts} == {np.dtype(np.int32)}
    TABLE.save(tmp_path)
    path = tmp_path / "regions-00000.parquet"
    table = pq.read_table(path)
    assert {str(table.schema.field(name).type.value_type) for name in counts} == {"int32"}
    for name in counts:
        column = table.schema.get_field_index(name)
        kind = pa.list_(pa.int64(), table.schema.field(name).type.list_size)
        table = table.set_column(column, name, table[name].cast(kind))
    pq.write_table(table, path, write_page_checksum=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"] = ShardFolder(tmp_path).digests()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    same(Samples.load(tmp_path), TABLE)


def test_counts_beyond_32_bits_stay_as_they_are() -> None:
    large = TABLE.regions.predicted.astype(np.int64)
    large[0, 0] = 1 << 31
    assert replace(TABLE.regions, predicted=large).predicted[0, 0] == 1 << 31


def test_what_was_measured_lies_in_the_file_of_its_regions(tmp_path: Path) -> None:
    TABLE.save(tmp_path)
    shards = ShardFolder(tmp_path)
    assert shards.measured(0) == {}  # as in a table of an earlier version
    (tmp_path / "manifest.json").write_text(json.dumps(shards.manifest() | {"files": {}}))
    shards = ShardFolder(tmp_path)
    shards.amend(0, shards.regions(0), measured={"strict:cam": {"interventions", "faithfulness"}})
    assert shards.measured(0) == {"strict:cam": ["faithfulness", "interventions"]}
    same(Samples.load(tmp_path), TABLE)
    path = tmp_path / "regions-00000.parquet"
    table = pq.read_table(path)
    for wrong in (b"{", b"[]", b'{"strict:cam": 1}', b"[" * 100_000):
        pq.write_table(table.replace_schema_metadata({"torchvice.measured": wrong}), path, write_page_checksum=True)
        with pytest.raises(ViceError, match=r"regions-00000\.parquet must be readable, but is not"):
            shards.measured(0)
