"""Fuzz every reader of foreign files: `make fuzz`, or `python benchmarks/fuzz.py --inputs 1000000`.

Each input starts as a real file and is changed by bytes, by lines, or by words that have broken readers before. A
reader must return a value or raise a ViceError, within five seconds of CPU time, and write nothing outside its folder.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from multiprocessing import Pool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from torchvice.errors import as_vice_error

LIMIT = 5  # seconds a reader may take
WORDS = [
    *(b"nan", b"inf", b"-1", b"1e309", b"9" * 5000, b"255", b"256", b"-9223372036854775809", b"0x41", b"1_000", b"~"),
    *(b"../../outside", b"/etc/passwd", b"a\\b", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n\n", b"\t", b" "),
    *(b"&a [*a, *a]", b"!!python/object/apply:os.system [true]", b"{a: 1, a: 2}", b"[" * 3000, b"<<: *b", b"- - - -"),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<object>", b"%PDF", b"%!PS-Adobe-3.0 EPSF-3.0", b"\x80\x04"),
    *("é".encode(), "e\u0301".encode(), "\u202e".encode(), b"\xed\xb0\x80", b"background", b"null", b"cos\nsystem\n"),
    *(bytes([letter]) for letter in b"\"',;:{}?"),
]
# Each name is nine aliases of the one before: small to read, 9^8 entries to print.
BOMB = b"a: &a [lol]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in b"bcdefghi"
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A changed copy of a file's content."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.choice((1, 4, 64, 4096))]
        elif kind == 2:
            data[at:at] = rng.choice(WORDS)
        elif kind == 3:
            data[at:at] = data[at : at + rng.choice((4, 32, 256))]
        elif kind == 4 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 5:
            lines = bytes(data).split(b"\n")
            place = rng.randrange(len(lines))
            lines[place : place + 1] = rng.choice(([], [rng.choice(WORDS)], [lines[place]] * 2))
            data = bytearray(b"\n".join(lines))
        elif kind == 6:
            words = bytes(data).split(b" ")
            words[rng.randrange(len(words))] = rng.choice(WORDS)
            data = bytearray(b" ".join(words))
        else:
            del data[at:]
    return bytes(BOMB if rng.random() < 0.002 else data)


# ---- the readers: each takes a folder with the changed file in it


def _read(module: str, name: str, *more: Any) -> Callable[[Path], Any]:
    import importlib

    function = getattr(importlib.import_module(module), name)
    return lambda path: function(path, *more)


def _description(path: Path) -> Any:
    from torchvice.data.description import read_description

    return read_description(path.parent)


def _maps(path: Path) -> Any:
    from torchvice.interop import read_maps

    return read_maps(path)


def _csv(path: Path) -> Any:
    from torchvice.interop import read_table
    from torchvice.measures import measure_table

    return measure_table(read_table(path)).to_json()


def _class_map(path: Path) -> Any:
    from torchvice.runs.class_maps import read_class_map

    return read_class_map(path, ("cat", "dog"), 10)


def _study(path: Path) -> Any:
    from torchvice.study import load_study

    return load_study(path, folder=path.parent / "study")


def _settings(path: Path) -> Any:
    from torchvice.config import load_settings

    return load_settings(path)


def _overrides(path: Path) -> Any:
    from torchvice.config import load_settings

    return load_settings("demo", path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:3])


def _tar(path: Path) -> Any:
    from torchvice.data.archives import unpack_tar

    (path.parent / "unpacked").mkdir()
    return unpack_tar(path, path.parent / "unpacked")


def _instances(path: Path) -> Any:
    from torchvice.data.coco_schema import read_instances

    return read_instances(io.BytesIO(path.read_bytes()), path.name)


def _table(path: Path) -> Any:
    """A shard or the manifest of a real table, changed: read as to be resumed, and measured."""
    from torchvice.measures import measure
    from torchvice.samples import Samples, ShardFolder

    shutil.copytree(TABLE, path.parent / "table")
    shutil.copy(path, path.parent / "table" / path.name)
    ShardFolder(path.parent / "table").manifest(resumed=True)
    return measure(Samples.load(path.parent / "table"), replicates=0).to_json()


# Arguments of `open_images` for the folders of images and masks below, by the name of the reader.
FOLDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "mask of a folder": ("b_mask", {}),
    "mask of named classes": ("b_mask", {"classes": ["cat", "dog"]}),
    "mask of many classes": ("b_mask", {"classes": [f"class {c}" for c in range(300)]}),
    "mask of named values": ("b_mask", {"mask_values": "object=1,background=0-0,void=2-255"}),
    "mask of class folders": ("dog/b", {}),
    "mask of ImageNet-S": ("n02123045/b", {}),
}


def _folder(reader: str) -> Callable[[Path], Any]:
    """A reader of images with masks: the changed file is the mask of `b`, and that of `a` is a good one."""
    changed, options = FOLDERS[reader]

    def read(path: Path) -> Any:
        from torchvice.data import check_files, open_images
        from torchvice.data.check import survey
        from torchvice.data.open import image_layout

        good = changed.replace("dog/", "cat/").replace("n02123045/", "n01443537/").replace("b", "a")
        inside = (path.parent / "photos", path.parent / "masks")
        for name, mask in ((good, GOOD_MASK if "ImageNet" not in reader else GOOD_IDS), (changed, path.read_bytes())):
            for folder, stem, content in (
                (inside[0], name.removesuffix("_mask"), GOOD_IMAGE),
                (inside[1], name, mask),
            ):
                (folder / stem).parent.mkdir(parents=True, exist_ok=True)
                (folder / f"{stem}.png").write_bytes(content)
        survey(image_layout(*inside, **options))
        dataset = open_images(*inside, **options)
        check_files(dataset)
        return [dataset.mask(index) for index in range(len(dataset))]

    return read


def _coco_folder(path: Path) -> Any:
    from torchvice.data import open_images

    (path.parent / "photos").mkdir()
    (path.parent / "photos" / "a.jpg").write_bytes(GOOD_IMAGE)
    dataset = open_images(path.parent / "photos", coco=path)
    return [dataset.mask(index) for index in range(len(dataset))]


def _scores(path: Path) -> Any:
    from torchvice.assessment.from_maps import _logits
    from torchvice.assessment.scores import read_scores

    return _logits(read_scores(path, ("cat", "dog")), ["im0", "im1"], False, None)


def _foreign_maps(path: Path) -> Any:
    """The file is the maps of the only image; it is read as `vice assess --maps` reads it."""
    from torchvice.assessment.foreign_maps import ForeignMaps

    (path.parent / "maps").mkdir()
    shutil.copy(path, path.parent / "maps" / path.name)
    one = SimpleNamespace(
        classes=("cat", "dog", "cow"),
        targets=np.array([[0, 0, 1]]),
        records=[SimpleNamespace(image_id="im0")],
        image=lambda index: np.zeros((24, 32, 3), np.uint8),
    )
    return ForeignMaps(path.parent / "maps", one).survey(1)


def _png(pixels: np.ndarray, kind: type = np.uint8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(kind)).save(stream, "PNG")
    return stream.getvalue()


SQUARE = np.pad(np.ones((8, 10)), ((4, 12), (6, 16)))  # (24, 32)
GOOD_IMAGE = _png(np.random.default_rng(1).integers(0, 255, (24, 32, 3)))
GOOD_MASK, GOOD_IDS = _png(SQUARE), _png(np.dstack([SQUARE, 0 * SQUARE, 0 * SQUARE]))
TABLE = Path()


def write_table(folder: Path) -> Path:
    """Assess a small untrained network on a few digits: a real table, for the readers of shards and manifests."""
    import timm
    import torch

    import torchvice.data
    from torchvice.data.digits import write_digits

    torch.manual_seed(0)
    data = write_digits(folder / "digits", train=1, val=1, test=6, size=48)
    model = timm.create_model("test_resnet", num_classes=10).eval()
    dataset = torchvice.data.VocDataset(data, "test")
    torchvice.assess(model, dataset, out=folder / "table", view_size=48, crop=48, controls=["random"])
    return folder / "table"


def seeds(folder: Path) -> dict[str, tuple[str, bytes, Callable[[Path], Any]]]:
    """{reader: (file name, the content of a real file, the reader)}."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3)).astype(np.uint8))
    mask = Image.fromarray((np.arange(768).reshape(24, 32) % 3).astype(np.uint8))
    mask.putpalette(bytes(range(256)) * 3)

    def saved(picture: Image.Image, kind: str) -> bytes:
        stream = io.BytesIO()
        picture.save(stream, kind)
        return stream.getvalue()

    def numpy_file(content: Any) -> bytes:
        stream = io.BytesIO()
        np.save(stream, content)
        return stream.getvalue()

    def npz_file() -> bytes:
        stream = io.BytesIO()
        np.savez(stream, keys=np.array([0, 2]), maps=np.ones((2, 3, 4), np.float16))
        return stream.getvalue()

    def parquet_file() -> bytes:
        stream = io.BytesIO()
        pq.write_table(pa.table({"id": ["im0", "im1"], "cat": [1.5, 0.25], "dog": [-2.0, 3.0]}), stream)
        return stream.getvalue()

    def tar_file() -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, kind in (("a/b.txt", tarfile.REGTYPE), ("a/link", tarfile.SYMTYPE), ("a/c.txt", tarfile.REGTYPE)):
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size = kind, "../../outside", 4 if kind == tarfile.REGTYPE else 0
                tar.addfile(member, io.BytesIO(b"text"))
        return stream.getvalue()

    xml = (
        b"<annotation><size><width>32</width><height>24</height></size><object><name>cat</name><difficult>0</difficult>"
        b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )
    csv = b"name_image,loss,confidence,entropy,label,prediction,miou,miou_exist\n" + b"".join(
        b'im%d,0.%d,0.9,0.1,"[1, 2]","[1]",0.%d,"[0.5, 0.3]"\n' % (i, i + 1, 9 - i) for i in range(8)
    )
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
        "annotations": [
            {"id": 9, "image_id": 1, "category_id": 3, "segmentation": [[5, 5, 15, 5, 15, 15]], "iscrowd": 0},
            {
                "id": 8,
                "image_id": 1,
                "category_id": 3,
                "segmentation": {"size": [40, 60], "counts": [2400]},
                "iscrowd": 1,
            },
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    study = {"name": "s", "base": "demo", "seeds": [0, 1], "axes": {"lr": ["optimizer.lr=0.1", "optimizer.lr=0.01"]}}
    settings = (Path(sys.modules["torchvice"].__path__[0]) / "presets" / "demo.yaml").read_bytes()
    described = {"names": ["cat", "dog"], "images": "JPEGImages", "masks": "Masks", "values": {1: "cat", 7: "dog"}}
    for name in ("JPEGImages", "Masks"):
        (folder / name).mkdir(exist_ok=True)
    found: dict[str, tuple[str, bytes, Callable[[Path], Any]]] = {
        "list of images": (
            "val.txt",
            b"im0\nJPEGImages/im1.jpg Masks/im1.png\nim 2\n\nim3\r\n",
            _read("torchvice.data", "read_list"),
        ),
        "annotation": ("a.xml", xml, _read("torchvice.data.annotations", "read_annotation")),
        "dataset.yaml": ("dataset.yaml", yaml.safe_dump(described).encode(), _description),
        "npy dictionary": (
            "maps.npy",
            numpy_file({0: np.ones((3, 4), np.float32), 2: np.ones((3, 4), np.float32)}),
            _maps,
        ),
        "npz of maps": ("maps.npz", npz_file(), _maps),
        "CSV": ("t.csv", csv, _csv),
        "class map": ("map.yaml", b"cat: 1\ndog: [2, 3]\n", _class_map),
        "study": ("study.yaml", yaml.safe_dump(study).encode(), _study),
        "settings": ("settings.yaml", settings, _settings),
        "overrides": ("o.txt", b"optimizer.lr=0.01\nmodel.arguments={a: 1}\ntrainer.epochs=2", _overrides),
        "image": ("a.jpg", saved(image, "JPEG"), _read("torchvice.data", "read_image")),
        "image that is a PNG": ("a.png", saved(image, "PNG"), _read("torchvice.data", "read_image")),
        "mask": ("m.png", saved(mask, "PNG"), _read("torchvice.data", "read_mask")),
        "archive": ("a.tar", tar_file(), _tar),
        "COCO": ("instances.json", json.dumps(coco).encode(), _instances),
        "COCO as it is": ("instances.json", json.dumps(coco).encode(), _coco_folder),
        "scores, a column a class": ("s.csv", b"id,cat,dog\nim0,1.5,-2\nim1,0.25,3\n", _scores),
        "scores, a row a class": ("s.csv", b"id,class,logit\nim0,cat,1\nim0,dog,-2\nim1,0,3\nim1,1,4\n", _scores),
        "scores in Parquet": ("s.parquet", parquet_file(), _scores),
        "maps: dictionary": ("im0.npy", numpy_file({0: SQUARE, 2: SQUARE}), _foreign_maps),
        "maps: array of classes": ("im0.npy", numpy_file(np.stack([SQUARE] * 3).astype(np.float32)), _foreign_maps),
        "maps: one array": ("im0.npy", numpy_file(SQUARE), _foreign_maps),
        "maps: npz": ("im0.npz", npz_file(), _foreign_maps),
        "maps: grey PNG": ("im0.png", _png(SQUARE * 200), _foreign_maps),
    }
    for name in FOLDERS:
        ids = np.dstack([SQUARE * 2, 0 * SQUARE, 0 * SQUARE])
        drawn = _png(ids if "ImageNet" in name else SQUARE * (1 + ("class" in name)))
        found[name] = ("b.png", _png(SQUARE * 290, np.uint16) if "many" in name else drawn, _folder(name))
    for name in ("manifest.json", "images-00000.parquet", "regions-00000.parquet"):
        if (TABLE / name).is_file():
            found[f"table: {name}"] = (name, (TABLE / name).read_bytes(), _table)
    return found


class TookTooLong(BaseException):
    """Not an Exception, so that no reader turns it into a sentence."""


@contextmanager
def limited(seconds: int) -> Any:
    """Raise TookTooLong after so many seconds of CPU time, or twenty times as many on the clock: cores may be busy."""

    def stop(number: int, frame: Any) -> None:
        raise TookTooLong

    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(20 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def batch(job: tuple[str, int, int, str, str]) -> tuple[str, int, dict[str, str]]:
    """Some inputs for one reader: (reader, how many, {kind of fault: an example})."""
    global TABLE
    reader, first, count, table, keep = job
    TABLE = Path(table)
    warnings.simplefilter("ignore")
    faults: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        name, content, read = seeds(base)[reader]
        for number in range(first, first + count):
            rng, inside = random.Random(f"{reader}:{number}"), base / "in" / "side"
            inside.mkdir(parents=True)
            for folder in ("JPEGImages", "Masks"):
                (inside / folder).mkdir()
            (inside / name).write_bytes(mutated(content, rng))
            fault = ""
            try:
                with limited(LIMIT):
                    read(inside / name)
            except TookTooLong:
                fault = f"no answer in {LIMIT} s"
            except Exception as error:
                if as_vice_error(error) is None:
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    fault = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} {str(error)[:80]}"
            if (
                sorted(entry.name for entry in base.iterdir()) != ["JPEGImages", "Masks", "in"]
                or len(list((base / "in").iterdir())) > 1
            ):
                fault = "a file outside its folder"
            if fault and (key := fault[:70]) not in faults:
                faults[key] = f"input {number}"
                if keep:
                    shutil.copy(inside / name, Path(keep) / f"{reader.replace(' ', '_')}-{number}-{name}")
            shutil.rmtree(base / "in")
            for entry in base.iterdir():
                if entry.name not in ("JPEGImages", "Masks"):
                    entry.unlink() if entry.is_file() else shutil.rmtree(entry)
    return reader, count, faults


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="Number of inputs over all readers.")
    parser.add_argument("--only", default="", help="Readers whose name holds this text.")
    parser.add_argument("--table", default="", help="Folder of a small finished table. Default: one is made.")
    parser.add_argument("--keep", default="", help="Folder for one input of each kind of fault.")
    parser.add_argument("--start", type=int, default=0, help="Number of the first input.")
    chosen = parser.parse_args(arguments)
    global TABLE
    made = tempfile.TemporaryDirectory()
    TABLE = Path(chosen.table).absolute() if chosen.table else write_table(Path(made.name))
    if chosen.keep:
        Path(chosen.keep).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in seeds(Path(folder)) if chosen.only in name]
    each = -(-chosen.inputs // len(names))
    jobs = [
        (
            name,
            first,
            min(500, chosen.start + each - first),
            str(TABLE),
            chosen.keep and os.path.abspath(chosen.keep),
        )
        for name in names
        for first in range(chosen.start, chosen.start + each, 500)
    ]
    began, counts = time.monotonic(), collections.Counter[str]()
    faults: dict[str, dict[str, str]] = {name: {} for name in names}
    with Pool(os.cpu_count()) as pool:
        for name, count, found in pool.imap_unordered(batch, jobs):
            counts[name] += count
            faults[name] |= found
    print(f"{'reader':30}{'inputs':>10}{'kinds of fault':>16}")
    for name in names:
        print(f"{name:30}{counts[name]:>10}{len(faults[name]):>16}")
        for kind, example in faults[name].items():
            print(f"    {kind} ({example})")
    print(f"{sum(counts.values())} inputs in {time.monotonic() - began:.0f} s")
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main())
