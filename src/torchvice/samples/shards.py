"""The table on disk: shards of Parquet, each written by a rename, and a manifest that says how they were made."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchvice.errors import ViceError, as_path, did_you_mean, not_utf8_error
from torchvice.files import atomic, read_json, sha256, write_json
from torchvice.metrics.parallel import threads
from torchvice.samples.arrow import arrow_of, columns_of, flat_maps
from torchvice.samples.checks import WAY_OUT, check_columns, check_manifest, check_resumed, check_rows, check_types
from torchvice.samples.columns import DIGESTS, UNSAID_OF_INTERVENTIONS, Images, Maps, Regions
from torchvice.samples.shard_parts import Stamp, check_names, groups_of, mapped, measured_of, read_bytes, slug, stamp_of
from torchvice.samples.stored import StoredColumns, stored

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["OWN_FILES", "SCHEMA", "ShardFolder"]

SCHEMA = 2
# One of them is in the folder of every table that was begun.
OWN_FILES = ("manifest.json", "measures.json", "assess*.lock*", "images-*", "regions-*", "maps-*")

# In the metadata of a file of regions: {explanation: what was measured of its maps}, as JSON.
_MEASURED = b"torchvice.measured"
Measured = Mapping[str, Collection[str]]

PARTS: dict[str, type] = {"images": Images, "regions": Regions, "maps": Maps}
_NAMES = {part: [column.name for column in fields(kind)] for part, kind in PARTS.items()}
_NAMES["maps"].append("map_shape")
FOOTERS = 64  # files of a part whose footers are kept: each takes a tenth of a megabyte
_File = tuple[str, int, str | None]  # part, number, explanation
_Before = tuple[Stamp, "pq.FileMetaData | None"]  # what a file had when it was opened, and its footer


class ShardFolder:
    """A folder of shards: `manifest.json`, and for every shard `regions-`, `maps-` and `images-NNNNN.parquet`.

    The file of images is written last and completes the shard: a run killed before leaves no incomplete shard, and the
    next run writes the same shard again. An explanation added later is stored next to a shard as
    `maps-NNNNN-ID.parquet` and `regions-NNNNN-ID.parquet`; the second completes it. It is read once the manifest lists
    it under `added`, which happens when every shard has it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = as_path("folder", folder)
        self.manifest_path = self.folder / "manifest.json"
        self._known: Mapping[str, str] | None = None

    def start(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, before the first shard and again when the counts are known."""
        write_json(self.manifest_path, {"schema": SCHEMA, **manifest})
        self._known = manifest.get("files", {})

    def digests(self) -> dict[str, str]:
        """The SHA-256 of every file of the table, by name: a manifest's `files`.

        A reader holds the files against them, because the checksums of Parquet's pages do not cover its footer.
        """
        return {path.name: sha256(path) for path in sorted(self.folder.glob("*.parquet"))}

    def _digest(self, path: Path) -> str | None:
        """What the manifest says of a file; None where it says nothing: of a table that is not finished."""
        if self._known is None:
            there = self.manifest_path.is_file()
            known = read_json(self.manifest_path, "The manifest", WAY_OUT).get("files") if there else {}
            self._known = known if isinstance(known, dict) else {}
        return self._known.get(path.name)

    def manifest(self, *, resumed: bool = False) -> dict[str, Any]:
        """Read the manifest, and for an assessment that is `resumed` check what only that reads.

        Raises:
            ViceError: the manifest is missing, has another schema, or is damaged.
        """
        if not self.manifest_path.is_file():
            raise ViceError(f"No table in {self.folder}: manifest.json is missing.", "Run vice assess first.")
        manifest = read_json(self.manifest_path, "The manifest", WAY_OUT)
        if manifest.get("schema") != SCHEMA:
            raise ViceError(
                f"The table must have schema {SCHEMA}, but {self.folder} has schema {manifest.get('schema')}.",
                "Delete that folder, or name another one, and assess the model again with this version of torchvice.",
            )
        check_manifest(manifest, str(self.manifest_path))
        if resumed:
            check_resumed(manifest, str(self.manifest_path))
        if "contents" in manifest["dataset"]:  # where tables had it for some days
            manifest["contents"] = manifest["dataset"].pop("contents")
        boxes = manifest["dataset"].get("regions") == "boxes"  # which have no void
        unsaid = {"void": "nearest"} if boxes else UNSAID_OF_INTERVENTIONS
        for settings in (manifest["explanations"] | (manifest["adding"] if resumed else {})).values():
            if isinstance(settings.get("interventions"), dict):
                settings["interventions"] = unsaid | settings["interventions"]
        return manifest

    def shards(self) -> list[int]:
        """The numbers of the finished shards, in order."""
        matches = (re.fullmatch(r"images-(\d{5})\.parquet", path.name) for path in self.folder.glob("images-*"))
        return sorted(int(match[1]) for match in matches if match)

    def finished_images(self) -> set[str]:
        """The ids of the images that finished shards hold."""
        return {
            image_id
            for shard in self.shards()
            for image_id in self._read("images", shard, ["image_id"])["image_id"].to_pylist()
        }

    def image_ids(self, number: int) -> list[str]:
        """The ids of the images of a finished shard, each once, in the order of their rows."""
        return list(dict.fromkeys(self._read("images", number, ["image_id"])["image_id"].to_pylist()))

    def digests_of_images(self, numbers: Sequence[int] | None = None) -> dict[str, tuple[str, str]]:
        """The digests of image and mask by image id, of these shards or of all; without those of earlier versions."""
        names, found = ["image_id", *DIGESTS], dict[str, tuple[str, str]]()
        for number in self.shards() if numbers is None else numbers:
            columns = self._read("images", number, names)
            if set(DIGESTS) <= set(columns.column_names):
                ids, *both = (columns[name].to_pylist() for name in names)
                found |= dict(zip(ids, zip(*both, strict=True), strict=True))
        return found

    def append(
        self,
        images: Images,
        regions: Regions,
        maps: Maps,
        numbers: Callable[[Sequence[int]], list[int]] = list,
        measured: Measured | None = None,
    ) -> None:
        """Write one more shard.

        Its number is the first free one that `numbers` keeps of 0, 1, 2, ...: processes that write at the same time
        have different numbers. `measured`: see `measured`.
        """
        taken = self.shards()
        free = (n for n in itertools.count() if n not in taken and numbers([n]))
        number = next(free)
        for left in self.folder.glob(f"regions-{number:05d}-*.parquet"):  # left by a deleted shard of other images
            left.unlink()
        self._write("regions", number, regions.columns(), measured=measured)
        for part, columns in (("maps", flat_maps(maps)), ("images", images.columns())):
            self._write(part, number, columns)

    def has(self, number: int, explanation: str) -> bool:
        """Whether an explanation was added to a shard."""
        return self._path("regions", number, explanation).is_file()

    def add(
        self, number: int, explanation: str, regions: Regions, maps: Maps, measured: Measured | None = None
    ) -> None:
        """Write the rows of one more explanation next to a shard."""
        self._write("maps", number, flat_maps(maps), explanation)
        self._write("regions", number, regions.columns(), explanation, measured)

    def regions(self, number: int, explanation: str | None = None) -> Regions:
        """Read the regions of a shard, or of an explanation added to it."""
        return Regions.of(**columns_of(self._read("regions", number, None, explanation)))

    def measured(self, number: int, explanation: str | None = None) -> dict[str, list[str]]:
        """What was measured of the maps whose regions lie in one file, by explanation; files of earlier versions: {}.

        Their columns do not always say: a network may give NaN for every image that is measured.
        """
        with self._opened("regions", number, explanation) as file:
            return measured_of((file.schema_arrow.metadata or {}).get(_MEASURED, b"{}"))

    def amend(
        self, number: int, regions: Regions, explanation: str | None = None, measured: Measured | None = None
    ) -> None:
        """Replace the regions of a shard, or of an explanation added to it, and what is `measured` of its maps."""
        self._write("regions", number, regions.columns(), explanation, measured)

    def read(self) -> tuple[dict[str, Any], Images, Regions, Maps]:
        """Read the whole table: the manifest and the three parts.

        Raises:
            ViceError: see `manifest`; or no shard is finished, or one is damaged.
        """
        manifest, shards = self.manifest(), self.shards()
        if not shards:
            raise ViceError(f"No finished shard in {self.folder}.", "Run vice assess again.")
        self.check_complete(manifest)
        files: dict[str, list[_File]] = {part: [(part, shard, None) for shard in shards] for part in PARTS}
        for explanation in manifest.get("added", ()):
            for part in ("regions", "maps"):
                files[part] += [(part, shard, explanation) for shard in shards]
        if manifest.get("files"):  # the digests say now that all is whole, so that columns can wait on disk
            images, regions, maps = (stored(self._stored(part, names)) for part, names in files.items())
        else:
            tables = {part: [self._read(*one[:2], None, one[2]) for one in names] for part, names in files.items()}
            images = Images.join([Images(**columns_of(table)) for table in tables["images"]])
            regions = Regions.join([Regions.of(**columns_of(table)) for table in tables["regions"]])
            maps = Maps.join([Maps(**columns_of(table)) for table in tables["maps"]])
        check_rows(manifest, images, regions, str(self.folder))
        return manifest, images, regions, maps

    def check_complete(self, manifest: Mapping[str, Any]) -> None:
        """Check that all files that the manifest lists are there.

        Raises:
            ViceError: one is gone.
        """
        gone = sorted(name for name in manifest.get("files", ()) if not (self.folder / name).is_file())
        if gone:
            again = self._completed_again(gone[0])
            raise ViceError(f"{self.folder} must hold {gone[0]}, which its manifest lists, but does not.", again)

    def _completed_again(self, name: str) -> str:
        """How a file that is gone is made again: by a run, once the file that completes its shard is gone, too."""
        last = re.sub(r"^maps-(\d{5}-)", r"regions-\1", re.sub(r"^\w+-(\d{5}\.)", r"images-\1", name))
        added = re.fullmatch(r"regions-\d{5}-[^-]+-(.+)\.parquet", last)
        again = "" if added is None else f", asking for {added[1]}"
        if (self.folder / last).is_file():
            return f"Delete {last} and run vice assess again{again}: only this shard is computed again."
        return f"Run vice assess again{again}: only what is missing is computed."

    def _path(self, part: str, number: int, explanation: str | None) -> Path:
        suffix = "" if explanation is None else f"-{slug(explanation)}"
        return self.folder / f"{part}-{number:05d}{suffix}.parquet"

    def _write(
        self,
        part: str,
        number: int,
        columns: Mapping[str, Any],
        explanation: str | None = None,
        measured: Measured | None = None,
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pa.table({name: arrow_of(column) for name, column in columns.items()})
        except UnicodeEncodeError as error:
            raise not_utf8_error(error) from None
        if measured:
            listed = {name: sorted(what) for name, what in measured.items()}
            table = table.replace_schema_metadata({_MEASURED: json.dumps(listed)})
        # Opened here: pyarrow rejects folder names that are not UTF-8, and its other errors do not name the file.
        with (
            atomic(self._path(part, number, explanation)) as path,
            open(path, "wb") as file,
            pq.ParquetWriter(file, table.schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            for rows in groups_of(columns, len(table)):
                writer.write_table(table.take(rows))

    def _read(
        self, part: str, number: int, columns: list[str] | None = None, explanation: str | None = None
    ) -> pa.Table:

        with self._opened(part, number, explanation) as file:
            check_names(file.schema_arrow.names, columns or _NAMES[part], others=columns is not None)
            table = file.read(columns)
            check_columns(table)
            return table

    def _stored(self, part: str, files: Sequence[_File]) -> StoredColumns:
        """The columns of files that stay on disk: their digests and schemas are checked, and their rows counted."""

        few = len(files) <= FOOTERS

        def opened(one: _File) -> tuple[_Before, list[int]]:
            with self._opened(*one) as file:
                check_names(file.schema_arrow.names, _NAMES[part])
                check_types(file.schema_arrow)
                rows = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
                return (stamp_of(os.stat(self._path(*one))), file.metadata if few else None), rows

        with ThreadPoolExecutor(threads()) as pool:
            before, groups = zip(*pool.map(opened, files), strict=True)

        def read(place: int, names: list[str], first: int, last: int) -> dict[str, np.ndarray]:
            with self._opened(*files[place], before[place]) as file:
                there = [*names, *(["map_shape"] if "map" in names else [])]
                there = [name for name in there if name in file.schema_arrow.names]
                table = file.read_row_groups(range(first, last), there, use_threads=False)
                check_columns(table)
                return columns_of(table)

        return StoredColumns(PARTS[part], groups, read)

    def stream(
        self, part: str, columns: Sequence[str], view: str | None = None, rows: int = 1 << 17
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield columns batch by batch, in the order of the shards; one batch is in memory at a time.

        Args:
            part: "images", or "regions" of the explanations that the table was begun with.
            columns: their names.
            view: only the rows of this view, for "images".
            rows: the maximum that is read at a time.

        Yields:
            {name: (b,) or (b, n) array} of the requested rows of a batch; b may be 0.

        Raises:
            ViceError: an unknown part or column, or a damaged shard, after the batches before it.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if part not in ("images", "regions"):
            raise ViceError(f"`part` must be 'images' or 'regions', but is {part!r}.")
        for name in columns:
            if name not in _NAMES[part]:
                raise ViceError(f"`{name}` is no column of the {part}.", did_you_mean(name, _NAMES[part]))
        for number in self.shards():
            with self._opened(part, number) as file:
                for batch in file.iter_batches(rows, columns=[*columns, *(["view"] if view is not None else [])]):
                    if view is not None:
                        batch = batch.filter(pc.equal(batch["view"], view))
                    yield columns_of(pa.Table.from_batches([batch]).select(list(columns)))

    def rows(self, part: str) -> int:
        """The number of rows of a part, of all views together, as the shards' footers state it.

        Raises:
            ViceError: a damaged shard.
        """
        import pyarrow.parquet as pq

        total = 0
        for number in self.shards():
            with self._damage_named(part, number):
                total += pq.read_metadata(self._path(part, number, None)).num_rows
        return total

    @contextlib.contextmanager
    def _opened(
        self, part: str, number: int, explanation: str | None = None, before: _Before | None = None
    ) -> Iterator[pq.ParquetFile]:
        """Open the file of a shard; turn errors of reading it into a ViceError.

        A file that was opened `before`, when it had this stamp, is not read whole and held against its digest again.
        Nor is its footer read again, if it is given: that takes longer than a column.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(part, number, explanation)
        with self._damage_named(part, number, explanation):
            if before is None:
                content, expected = read_bytes(path), self._digest(path)
                if expected is not None and hashlib.sha256(content).hexdigest() != expected:
                    raise ValueError("it is not the file that the manifest was written for")
            else:
                content = mapped(path, before[0])
            # Without the checksums a flipped bit in a table that is not finished would be another number.
            footer = None if before is None else before[1]
            with pq.ParquetFile(pa.BufferReader(content), metadata=footer, page_checksum_verification=True) as file:
                yield file

    @contextlib.contextmanager
    def _damage_named(self, part: str, number: int, explanation: str | None = None) -> Iterator[None]:
        """Turn errors of reading the file of a shard into a ViceError."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            counts = self._path("images" if explanation is None else "regions", number, explanation).name
            again = "" if explanation is None else f", asking for {explanation.partition(':')[2]}"
            raise ViceError(
                f"The shard {self._path(part, number, explanation)} must be readable, but is not: "
                f"{str(error).partition(chr(10))[0]}",
                f"Delete {counts} and run vice assess again{again}: only this shard is computed again.",
            ) from None
