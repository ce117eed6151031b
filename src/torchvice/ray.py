"""An assessment by Ray Data: `Assessor` turns batches of images into rows, `collect` turns the rows into a table."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np

from torchvice.errors import ViceError, check_kind, did_you_mean, reason_of

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from torchvice.assessment import Dataset, MapSettings
    from torchvice.assessment.map_settings import Protocols
    from torchvice.assessment.request import AssessKeywords
    from torchvice.runs.subject import Subject
    from torchvice.samples import Images, Maps, Regions, Samples

__all__ = ["Assessor", "collect"]

StrPath = str | os.PathLike[str]


class Assessor:
    """A function for `ray.data.Dataset.map_batches` that assesses the images of a batch, see docs/ray.md.

    Ray makes one in each worker and calls it with dictionaries of arrays. The column `image_id`, or else `path`, names
    images of `data`, which every worker opens; masks and labels are those of `data`. A path names the image whose id it
    ends with. A column `image` of (H, W, 3) uint8 arrays, as `ray.data.read_images(..., mode="RGB")` gives them, is
    taken as the pixels; without it, images are read from `data`. Other columns are dropped.

    Args:
        model: a network, or the name of one, as of `--model`.
        data: the folder of a dataset, as of `--data`; a `Dataset`; or what `torchvice.data.from_items` takes.
        run: the folder of a RUN, in the place of both; `data` is then a folder with data of its classes, in place of
            its own.
        split: of `data` or of the RUN; None: the default one.
        checkpoint: of the RUN.
        weights, arguments: of a network by name, see `torchvice.runs.subject.subject_from_weights`; its `class_map` is
            a file or a name.
        protocols, targets, workers, keywords: see `torchvice.assess`, but `controls` and `without`, if not given, are
            the defaults of `vice assess`.

    Returns:
        Of a call: pyarrow.Table with a row for each image, for `collect`. `image_id`, or also `path` if it was given;
        `index` in the dataset; `images`, `regions` and `maps`, the rows of the table as lists of structures; `files`,
        their digests; and `assessment`, the manifest of the table.

    Raises:
        ViceError: see `torchvice.assess`; no image of the data, or an image twice in a batch.
    """

    def __init__(
        self,
        model: nn.Module | StrPath | None = None,
        data: Dataset | StrPath | Any = None,
        *,
        run: StrPath | None = None,
        split: str | None = None,
        checkpoint: str = "best",
        weights: StrPath | None = None,
        arguments: Mapping[str, Any] | None = None,
        protocols: Protocols = ("paper", "strict"),
        targets: Literal["multilabel", "exclusive"] | None = None,
        workers: int = 2,
        **keywords: Unpack[AssessKeywords],
    ) -> None:
        from torchvice.assessment.batches import BatchAssessment
        from torchvice.assessment.request import Extras, packed_with_extras
        from torchvice.data.open import FOLDERS

        by_name = isinstance(model, (str, os.PathLike))
        named: dict[str, Any] = {"weights": weights, "arguments": arguments}
        named |= {"class_map": keywords.pop("class_map", None)} if by_name else {}
        settings, extras = packed_with_extras(keywords, None, Extras(controls=None, without="auto"))
        if run is not None:
            own = {"model": model, **{name: keywords.get(name) for name in FOLDERS}, **named}
            if given := [name for name, value in own.items() if value is not None]:
                raise ViceError(f"A run has its own model and classes, but `{given[0]}` is given too.", "Remove one.")
            subject = _of_run(run, split, checkpoint, settings, data)
        elif model is None:
            raise ViceError("An assessment needs a model and data, or a run, but neither is given.", "Such as run=DIR.")
        elif checkpoint != "best":
            raise ViceError("`checkpoint` names a checkpoint of a run, but `run` is not given.", "Give weights=FILE.")
        else:
            subject = _of_model(model, _opened(data, split, keywords), settings, named)
        self._assessment = BatchAssessment(
            subject.model,
            subject.dataset,
            protocols=protocols,
            settings=subject.settings,
            extras=extras,
            targets=targets,
            workers=workers,
            made_by=subject.made_by,
        )
        self._place = {record.image_id: place for place, record in enumerate(subject.dataset.records)}
        self._manifest = json.dumps(self._assessment.manifest)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> pa.Table:
        """Assess a batch.

        Args:
            batch: (N,) columns, see the class.
        """
        import pyarrow as pa

        from torchvice.samples.nested import nested

        column = next((name for name in ("image_id", "path") if name in batch), None)
        if column is None:
            raise ViceError(
                f"A batch must have a column `image_id` or `path`, but has {', '.join(sorted(batch)) or 'none'}.",
                "Of read_images: include_paths=True.",
            )
        places = [self._place_of(str(name)) for name in batch[column]]
        if len(set(places)) < len(places):
            twice = next(name for place, name in zip(places, batch[column], strict=True) if places.count(place) > 1)
            raise ViceError(f"A batch must have each image once, but has {str(twice)!r} twice.", "Remove one.")
        pixels = {place: _rgb(image) for place, image in zip(places, batch.get("image", ()), strict=False)}
        images, regions, maps, files = self._assessment.rows(places, pixels)
        ids = [self._assessment.dataset.records[place].image_id for place in places]
        return pa.table(
            {
                "image_id": pa.array(ids, pa.string()),
                **({"path": pa.array([str(path) for path in batch["path"]], pa.string())} if "path" in batch else {}),
                "index": pa.array(places, pa.int64()),
                **nested(images, regions, maps, ids),
                "files": pa.array([json.dumps(found) for found in files], pa.string()),
                "assessment": pa.array([self._manifest] * len(ids), pa.string()),
            }
        )

    def _place_of(self, name: str) -> int:
        """The place of the image whose id is a name, or the longest end of a path without its suffix."""
        if name in self._place:
            return self._place[name]
        parts = PurePath(name).with_suffix("").parts if name else ()
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        found = next((end for end in ends if end in self._place), None)
        if found is None:
            raise ViceError(
                f"Every image must be one of the dataset's, but {name!r} is not.",
                did_you_mean(parts[-1] if parts else name, list(self._place)[:1000]),
            )
        return self._place[found]


def _of_run(run: StrPath, split: str | None, checkpoint: str, settings: MapSettings, data: Any) -> Subject:
    """A RUN, perhaps on data in another folder."""
    from torchvice.runs import Run
    from torchvice.runs.subject import subject_from_run

    check_kind("data", data, (str, os.PathLike, type(None)), "a folder where `run` is given")
    dataset = None if data is None else Run(run).dataset(split, root=data)
    return subject_from_run(Run(run), split, checkpoint, settings, dataset=dataset)


def _of_model(model: nn.Module | StrPath, data: Any, settings: MapSettings, named: Mapping[str, Any]) -> Subject:
    """A network, or one by its name; `named` is what goes with a name."""
    from torchvice.runs.subject import Subject, subject_from_weights

    if isinstance(model, (str, os.PathLike)):
        return subject_from_weights(os.fspath(model), dataset=data, out=None, settings=settings, **named)
    if given := [name for name, value in named.items() if value is not None]:
        raise ViceError(f"`{given[0]}` goes with the name of a network, but `model` is a network.", "Remove it.")
    return Subject(model, data, Path(), settings, {})


def _opened(data: Any, split: str | None, keywords: Mapping[str, Any]) -> Any:
    """The dataset that is named. Its files are not looked through first: every worker would read them all."""
    from torchvice.assessment.opened import opened
    from torchvice.data import open_dataset, open_images
    from torchvice.data.open import FOLDERS, check_given

    folders = {name: keywords[name] for name in FOLDERS if keywords.get(name) is not None}
    if isinstance(data, (str, os.PathLike)):
        check_given(folders, "`data`", python=True, alone=("classes", "masks"))
        return open_dataset(data, split, **folders)
    if split is not None:
        raise ViceError("`split` names a list of the folder `data`, but `data` is no folder.", "Remove `split`.")
    return open_images(**folders) if data is None and "images" in folders else opened(data, folders)


def _rgb(image: Any) -> np.ndarray:
    """An image of Ray's as (H, W, 3) uint8."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ViceError(
            f"The column `image` must hold arrays (H, W, 3) of uint8, but one is {pixels.dtype} {pixels.shape}.",
            'ray.data.read_images(..., mode="RGB") makes them.',
        )
    return pixels


def collect(rows: StrPath, out: StrPath, shard_size: int = 128) -> Samples:
    """Write the rows of an `Assessor` as a table: that of `torchvice.assess`, in the order of the dataset.

    An image that was written twice, as when a worker was killed, is taken once. `collect` resumes if it was killed.

    Args:
        rows: folder of the Parquet files that `write_parquet` wrote; sub-folders count too.
        out: folder of the table, created if missing.
        shard_size: images per shard.

    Returns:
        Samples, read back from `out`.

    Raises:
        ViceError: no rows, images of the dataset without a row, rows of several assessments, a damaged file, or an
            `out` that holds other things, or a table that lacks explanations of the rows.
    """
    from torchvice.assessment.ledger import Ledger, common_of
    from torchvice.assessment.opened import opened_out
    from torchvice.assessment.parts import WHOLE, locked_part
    from torchvice.samples import ShardFolder

    written = _Written(Path(rows))
    request = written.manifest()
    folder = ShardFolder(opened_out(out))
    with locked_part(folder.folder, WHOLE, common_of(request) | {"shard_size": shard_size}):
        ledger = Ledger.open(folder, request, adds=False)
        finished = folder.finished_images()
        left = [index for index, image_id in enumerate(written.image_ids) if image_id not in finished]
        if left:
            ledger.begin()
        for start in range(0, len(left), shard_size):
            mine = left[start : start + shard_size]
            image_ids = [written.image_ids[index] for index in mine]
            images, regions, maps = _ordered(written.rows(mine), image_ids, request)
            folder.append(images, regions, maps, measured=ledger.to_measure(request["explanations"]))
        return ledger.finish()


def _ordered(
    parts: tuple[Images, Regions, Maps], image_ids: Sequence[str], request: Mapping[str, Any]
) -> Iterator[Any]:
    """The parts of a shard in the order of `torchvice.assess`: by view or explanation, then by image."""
    views = [protocol["view"] for protocol in request["protocols"].values()]
    explanations = list(request["explanations"])
    image = {image_id: place for place, image_id in enumerate(image_ids)}
    for part, name, order in zip(
        parts, ("view", "explanation", "explanation"), (views, *[explanations] * 2), strict=True
    ):
        rank = {value: place for place, value in enumerate(order)}
        columns = vars(part)
        by_image = [image[image_id] for image_id in columns["image_id"].tolist()]
        yield part.where(np.lexsort((by_image, [rank[value] for value in columns[name].tolist()])))


class _Written:
    """The rows in the files of a folder, by their place in the dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = sorted(folder.rglob("*.parquet"))
        if not self.files:
            raise ViceError(
                f"{folder} must hold the Parquet files of an Assessor's rows, but has none.",
                f"Write them: ...map_batches(Assessor, ...).write_parquet({str(folder)!r}).",
            )
        self._table = functools.lru_cache(maxsize=4)(self._read)

    @functools.cached_property
    def _known(self) -> dict[int, tuple[str, str, int, int]]:
        """Of each image the id, the digests of its files, and where its row lies: file and row."""
        known: dict[int, tuple[str, str, int, int]] = {}
        for number in range(len(self.files)):
            table = self._read(number, ("index", "image_id", "files"))
            for row, (index, *named) in enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True)):
                known.setdefault(index, (named[0], named[1], number, row))
        return known

    @functools.cached_property
    def image_ids(self) -> list[str]:
        """The ids in the order of the dataset."""
        return [self._known[index][0] for index in sorted(self._known)]

    def manifest(self) -> dict[str, Any]:
        """The manifest of the table, from that of the rows and the digests of all files.

        Raises:
            ViceError: rows of several assessments, or images without a row.
        """
        from torchvice.data.digests import Contents

        manifest = self._assessment()
        images = manifest["dataset"]["images"]
        if sorted(self._known) != list(range(images)):
            lacking = next((index for index in range(images) if index not in self._known), images)
            raise ViceError(
                f"{self.folder} must hold a row for each of the {images} images of the dataset, but holds "
                f"{len(self._known)}; image {lacking} is missing.",
                "Assess the missing images into the same folder; their places in the dataset count from 0.",
            )
        contents = Contents()
        for index, image_id in enumerate(self.image_ids):
            contents.add(image_id, (), json.loads(self._known[index][1]))
        found = contents.digests()
        if found.pop("ids") != manifest["contents"]["ids"]:
            raise ViceError(
                f"The rows in {self.folder} must have the ids of their dataset, but have others.",
                "Delete the files and assess the images again.",
            )
        del found["targets"]
        return manifest | {"contents": manifest["contents"] | found}

    def _assessment(self) -> dict[str, Any]:
        """The one assessment that all rows are of."""
        from torchvice.assessment.ledger import common_of

        first: dict[str, Any] = {}
        for number, file in enumerate(self.files):
            for text in self._read(number, ("assessment",))["assessment"].unique().to_pylist():
                manifest = json.loads(text)
                first = first or manifest
                before, now = common_of(first), common_of(manifest)
                if before != now:
                    names = [f"`{name}`" for name in before if before[name] != now.get(name)]
                    raise ViceError(
                        f"All rows must be of one assessment, but those of {file} differ from those of "
                        f"{self.files[0]} in {', '.join(names)}.",
                        "Write the rows of each assessment to a folder of its own.",
                    )
        return first

    def rows(self, indices: Sequence[int]) -> tuple[Images, Regions, Maps]:
        """The parts of the table of some images, file by file."""
        from torchvice.samples import Images, Maps, Regions
        from torchvice.samples.nested import PARTS, unnested

        of_file: dict[int, list[int]] = {}
        for index in indices:
            _, _, number, row = self._known[index]
            of_file.setdefault(number, []).append(row)
        taken = []
        for number, rows in of_file.items():
            try:
                taken.append(unnested(self._table(number, PARTS).take(rows)))
            except (TypeError, ValueError) as error:
                raise self._damaged(self.files[number], error) from None
        images, regions, maps = zip(*taken, strict=True)
        return Images.join(images), Regions.join(regions), Maps.join(maps)

    def _read(self, number: int, columns: Sequence[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self.files[number]
        try:
            with open(file, "rb") as opened, pq.ParquetFile(opened) as parquet:
                lacking = [name for name in columns if name not in parquet.schema_arrow.names]
                if lacking:
                    raise ValueError(f"it has no column {', '.join(lacking)}")
                return parquet.read(list(columns)).select(list(columns))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(file, error) from None

    def _damaged(self, file: Path, error: Exception) -> ViceError:
        return ViceError(
            f"{file} must hold rows of an Assessor, but does not: {reason_of(error)}.",
            "Delete it, and assess its images again into the same folder.",
        )
