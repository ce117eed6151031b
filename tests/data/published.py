"""Small archives with exactly the structure of the published ones, and a server for them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

from torchvice.data.archives import Source

# What each image holds, as labels; height and width differ. VOC train: a, b; VOC val: v, w; the others SBD's.
VOC = {"2007_000001": (5, 7), "2007_000002": (6, 4), "2007_000003": (4, 6), "2007_000004": (5, 3)}
SBD = {"2008_000001": (4, 5), "2008_000002": (3, 7), "2008_000003": (6, 6)}
VOC_TRAIN, VOC_VAL = list(VOC)[:2], list(VOC)[2:]
SBD_TRAIN = ["2008_000001", "2007_000002", "2007_000003"]  # one of VOC's train, one of VOC's val
SBD_VAL = ["2008_000002", "2008_000003", "2007_000004"]
NAMES = ("aeroplane", "bicycle", "bird")


def picture(shape: tuple[int, int], kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(shape[0]).integers(0, 256, (*shape, 3), dtype=np.uint8)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, kind)
    return stored.getvalue()


def voc_mask(shape: tuple[int, int], label: int) -> bytes:
    mask = np.zeros(shape, np.uint8)
    mask[0], mask[1, 0] = label, 255
    stored, drawn = io.BytesIO(), Image.fromarray(mask)
    drawn.putpalette(bytes(range(256)) * 3)
    drawn.save(stored, "PNG")
    return stored.getvalue()


def sbd_mat(shape: tuple[int, int], label: int) -> bytes:
    """GTcls as SBD has it: Boundaries (20 sparse matrices), Segmentation, CategoriesPresent, in a struct of 1 x 1."""
    mask = np.zeros(shape, np.uint8)
    mask[-1] = label
    boundaries = np.empty((20, 1), dtype=object)
    for c in range(20):
        boundaries[c, 0] = scipy.sparse.csc_matrix(mask == c + 1)
    content = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": np.array([[label]], np.uint8)}
    stored = io.BytesIO()
    scipy.io.savemat(stored, {"GTcls": content})
    return stored.getvalue()


def annotation(names: tuple[str, ...]) -> bytes:
    objects = "".join(f"<object><name>{name}</name><difficult>{i}</difficult></object>" for i, name in enumerate(names))
    return f"<annotation>{objects}</annotation>".encode()


def tarred(file: Path, members: dict[str, bytes], mode: str) -> Path:
    with tarfile.open(file, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def voc_members() -> dict[str, bytes]:
    base = "VOCdevkit/VOC2012/"
    members = {f"{base}JPEGImages/{name}.jpg": picture(shape) for name, shape in (VOC | SBD).items()}
    for label, (name, shape) in enumerate(VOC.items(), start=1):
        members[f"{base}SegmentationClass/{name}.png"] = voc_mask(shape, label)
        members[f"{base}SegmentationObject/{name}.png"] = voc_mask(shape, 1)
    for name in VOC | SBD:
        members[f"{base}Annotations/{name}.xml"] = annotation(NAMES[:1] if name in VOC else NAMES[1:])
    members[f"{base}ImageSets/Segmentation/train.txt"] = "\n".join(VOC_TRAIN).encode()
    members[f"{base}ImageSets/Segmentation/val.txt"] = "\n".join(VOC_VAL).encode()
    members[f"{base}ImageSets/Segmentation/trainval.txt"] = "\n".join(VOC).encode()
    return members


def sbd_members() -> dict[str, bytes]:
    base = "benchmark_RELEASE/dataset/"
    everything = {name: (VOC | SBD)[name] for name in SBD_TRAIN + SBD_VAL}
    members = {f"{base}cls/{name}.mat": sbd_mat(shape, 7) for name, shape in everything.items()}
    members |= {f"{base}img/{name}.jpg": picture(shape) for name, shape in everything.items()}
    members[f"{base}train.txt"] = "\n".join(SBD_TRAIN).encode() + b"\n"
    members[f"{base}val.txt"] = "\n".join(SBD_VAL).encode() + b"\n"
    members["benchmark_RELEASE/README"] = b"as published"
    return members


def write_archives(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tarred(folder / "VOCtrainval_11-May-2012.tar", voc_members(), "w")
    tarred(folder / "benchmark.tgz", sbd_members(), "w:gz")


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def sources(folder: Path, address: str | None = None) -> dict[str, Source]:
    """The archives in `folder` with their own checksums."""
    files = {"voc": folder / "VOCtrainval_11-May-2012.tar", "sbd": folder / "benchmark.tgz"}
    where = {name: None if address is None else f"{address}/{file.name}" for name, file in files.items()}
    return {name: Source(where[name], file.name, md5(file)) for name, file in files.items()}


class Server:
    """Serves a folder on localhost; `ranges`: as servers that can go on; `cut`: bytes after which it hangs up, once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ranges, self.cut = folder, True, 0
        self.asked: list[tuple[str, str, str]] = []  # method, name, Range
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        name, asked = handler.path.strip("/"), handler.headers.get("Range", "")
        self.asked.append((handler.command, name, asked))
        file = self.folder / name
        if not file.is_file():
            handler.send_error(404)
            return
        content, begin = file.read_bytes(), 0
        if self.ranges and (found := re.fullmatch(r"bytes=(\d+)-", asked)):
            begin = int(found[1])
            if begin >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        if handler.command == "GET":
            rest = content[begin:]
            if self.cut:
                rest, self.cut = rest[: self.cut], 0
                handler.close_connection = True
            handler.wfile.write(rest)

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()
