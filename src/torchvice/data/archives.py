"""Archives of published datasets: fetched with their checksum, gone on with, unpacked whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from torchvice.errors import ViceError

__all__ = ["Room", "Source", "building", "check_space", "fetch", "reading", "safe_name", "still_to_fetch", "unpack_tar"]

Progress = Callable[[int, int], None]
CHUNK = 1 << 20
PART = ".vice-data.part"
SECONDS = 60  # without an answer
MEBIBYTE = 1 << 20
KEPT_NOTHING = "Nothing of it was kept."
Member = TypeVar("Member", tarfile.TarInfo, zipfile.ZipInfo)


@dataclass(frozen=True)
class Source:
    """An archive as it is published: where (None: nobody says), its file's name, its MD5 (None: not checked)."""

    url: str | None
    filename: str
    md5: str | None


def fetch(source: Source, folder: Path, progress: Progress | None = None) -> Path:
    """The archive's file in `folder`: the one that is there, if its checksum is right, else downloaded.

    A download that broke off goes on where it stopped, if the server can do that, and begins anew if not. The file has
    its name only when it is whole.

    Args:
        source: what is fetched.
        folder: where it lies or will lie.
        progress: called with the MiB that are there and all of them.

    Raises:
        ViceError: a wrong checksum, no address, no answer, a connection that broke off, a full disk.
    """
    file, part = folder / source.filename, folder / f".{source.filename}.part"
    if file.is_file():
        _check_md5(file, source, "Remove it to have it fetched anew, or give the archive as it is published.")
        return file
    if source.url is None:
        raise ViceError(
            f"The archive {source.filename} must lie in {folder}, but does not, and nobody says where to fetch it.",
            "Put it there, or say where it can be fetched: --from URL.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _download(source.url, part, progress)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise ViceError(
                f"The disk is full: {part} cannot grow.", "Make room and start again: it goes on."
            ) from None
        raise _no_answer(source, folder, str(getattr(error, "reason", error))) from None
    except http.client.HTTPException as error:
        raise _no_answer(source, folder, repr(error)) from None
    try:
        _check_md5(part, source, "What came is removed. Start again to fetch it whole.")
    except ViceError:
        part.unlink()
        raise
    os.replace(part, file)
    return file


def _no_answer(source: Source, folder: Path, reason: str) -> ViceError:
    return ViceError(
        f"{source.filename} cannot be fetched from {source.url}: {reason.rstrip('.')}.",
        f"Start again, which goes on with what has come; or put the file into {folder} by other means.",
    )


def _request(url: str, **headers: str) -> urllib.request.Request:
    if not url.startswith(("http://", "https://")):
        raise ViceError(f"An archive's address must begin with http:// or https://, but is {url!r}.")
    return urllib.request.Request(url, headers={"User-Agent": "torchvice", **headers})


def _download(url: str, part: Path, progress: Progress | None) -> None:
    """Write what `url` serves to `part`, from where that ends."""
    there = part.stat().st_size if part.is_file() else 0
    request = _request(url, **({"Range": f"bytes={there}-"} if there else {}))
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not there:
            raise
        if error.headers.get("Content-Range") == f"bytes */{there}":  # all of it was here
            return
        response = urllib.request.urlopen(_request(url), timeout=SECONDS)  # what is there is no beginning of it
    with response:
        begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        goes_on = response.status == 206 and begins is not None and int(begins[1]) == there
        if response.status == 206 and not goes_on:
            raise ConnectionError(f"it was asked to go on from byte {there}, and sent {begins and begins[0]}")
        length = response.headers.get("Content-Length")
        done = there if goes_on else 0
        total = done + int(length) if length else 0
        with part.open("ab" if goes_on else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done // MEBIBYTE, max(total, done) // MEBIBYTE)
    if total and done < total:
        raise ConnectionError(f"it broke off after {done} of {total} bytes")


def _check_md5(file: Path, source: Source, way_out: str) -> None:
    if source.md5 is None:
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != source.md5:
        raise ViceError(f"{source.filename} must have the MD5 {source.md5}, but {file} has {found}.", way_out)


def still_to_fetch(source: Source, folder: Path) -> tuple[int, int]:
    """How many bytes of an archive are still to come, and how many it has; 0 where the server does not say."""
    file, part = folder / source.filename, folder / f".{source.filename}.part"
    if file.is_file():
        return 0, file.stat().st_size
    if source.url is None:
        return 0, 0
    request = _request(source.url)
    request.method = "HEAD"
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            size = int(response.headers.get("Content-Length") or 0)
    except urllib.error.HTTPError as error:
        if error.code in (403, 405, 501):  # servers that do not answer this kind of question
            return 0, 0
        raise _no_answer(source, folder, str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(source, folder, str(getattr(error, "reason", error))) from None
    return max(0, size - (part.stat().st_size if part.is_file() else 0)), size


def check_space(needed: Sequence[tuple[Path, int]]) -> None:
    """That the disks have room: (folder, bytes) pairs, of which those on one disk are added up.

    Raises:
        ViceError: a disk has less.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in needed:
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        device = there.stat().st_dev
        disks[device] = (there, disks.get(device, (there, 0))[1] + size)
    for there, size in disks.values():
        free = shutil.disk_usage(there).free
        if free < size:
            raise ViceError(
                f"The disk of {there} must have {size / 1e9:.1f} GB free, but has {free / 1e9:.1f} GB.",
                "Make room, or give a folder on another disk.",
            )


@contextlib.contextmanager
def reading(archive: Path) -> Iterator[None]:
    """What goes wrong while an archive is unpacked, in one sentence.

    Raises:
        ViceError: the archive is damaged or truncated or has a member outside its folder.
    """
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ViceError(
            f"The archive {archive} must be whole, but is truncated or damaged: {error}.",
            "Copy or download it again. Nothing of it was kept.",
        ) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise ViceError(f"The archive {archive} must be whole, but is damaged: {error}.") from None  # gzip's checksum


def safe_name(name: str, archive: Path) -> PurePosixPath:
    """A member's name, if it stays in the folder that the archive is unpacked to.

    Raises:
        ViceError: it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ViceError(f"The archive {archive} is refused: {name!r} lies outside it.", KEPT_NOTHING)
    return path


def unpack_tar(archive: Path, folder: Path, progress: Progress | None = None) -> None:
    """Unpack the regular files and folders of a tar into `folder`.

    Links, devices and everything else are refused: Python's own filter lets links through, and a later member could be
    written through one of them.

    Raises:
        ViceError: see `reading`; a member of another kind, outside the folder, or far larger than the archive.
    """
    size = archive.stat().st_size
    room = Room(archive)
    with reading(archive), archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:*") as tar:
        for member in tar:
            target = folder / safe_name(member.name, archive)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                target.parent.mkdir(parents=True, exist_ok=True)
                opened = tar.extractfile(room.take(member))
                assert opened is not None  # a regular file
                with opened, target.open("wb") as written:
                    shutil.copyfileobj(opened, written)
            else:
                raise ViceError(
                    f"The archive {archive} is refused: {member.name!r} is neither a file nor a folder.", KEPT_NOTHING
                )
            if progress:
                progress(file.tell() // MEBIBYTE, size // MEBIBYTE)


class Room:
    """Counts what comes out of an archive: a few kilobytes can claim to be terabytes.

    Args:
        archive: images and masks are compressed already, so that 100 times its size, and 1 GiB more, is far too much.
    """

    def __init__(self, archive: Path) -> None:
        self.archive, self.left = archive, 100 * archive.stat().st_size + (1 << 30)

    def take(self, member: Member) -> Member:
        """Count a member, a `TarInfo` or a `ZipInfo`, and return it.

        Raises:
            ViceError: more came out than any archive of images holds.
        """
        self.left -= member.size if isinstance(member, tarfile.TarInfo) else member.file_size
        if self.left < 0:
            name = member.name if isinstance(member, tarfile.TarInfo) else member.filename
            raise ViceError(f"The archive {self.archive} is refused: {name!r} is too large for it.", KEPT_NOTHING)
        return member


@contextlib.contextmanager
def building(root: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder whose entries `names` are moved to `root`, in this order, when the block ends without an error.

    The last of them says that the dataset is whole. What a killed build left is cleared away by the next one; an error
    leaves nothing.

    Raises:
        ViceError: `root` holds one of the names, or is being built by another process; the disk is full.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".vice-data.lock").open("w") as lock:
        _lock(lock, root)
        try:
            with _parts(root, names) as part:
                yield part
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ViceError(f"The disk is full, and nothing of the dataset is left in {root}.", "Make room.") from None
        finally:
            (root / ".vice-data.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _parts(root: Path, names: Sequence[str]) -> Iterator[Path]:
    part = root / PART
    taken = [name for name in names if (root / name).exists()]
    if taken and not part.is_dir():
        raise ViceError(
            f"{root} must be free for the dataset, but holds {', '.join(taken)}.",
            "Give another folder, or remove them.",
        )
    part.mkdir(exist_ok=True)
    _clear(part)
    try:
        yield part
        for name in names:
            _remove(root / name)
            os.replace(part / name, root / name)
        taken = []
    finally:
        _clear(part)
        # Beside what a killed build had moved, the empty folder says that it may be replaced.
        if not taken:
            part.rmdir()


def _lock(file: IO[str], root: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ViceError(f"Another process is making the dataset in {root}.", "Wait until it is done.") from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        _remove(entry)
