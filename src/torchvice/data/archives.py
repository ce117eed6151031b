"""Archives of published datasets: downloaded, verified, and unpacked completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import lzma
import os
import re
import shutil
import struct
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from torchvice.errors import ViceError, brief, reason_of

__all__ = ["Room", "Source", "check_space", "fetch", "fetch_all", "reading", "safe_name", "unpack_tar"]

Progress = Callable[[int, int], None]
CHUNK = 1 << 20
ENCRYPTED = 1  # the bit of a member of a zip that has a password
SECONDS = 60  # timeout of a request
MEBIBYTE = 1 << 20
KEPT_NOTHING = "Nothing was unpacked."
AS_PUBLISHED = f"Give the archive as published. {KEPT_NOTHING}"
COPY_AGAIN = f"Copy or download it again. {KEPT_NOTHING}"
# What the unpackers raise for damaged bytes, depending on where the damage is.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError),
    *(ValueError, ArithmeticError, LookupError, AttributeError, struct.error),
)
# A path of a member that no folder can hold, or that is a file here and a folder there.
NO_NAME = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
Member = TypeVar("Member", tarfile.TarInfo, zipfile.ZipInfo)


@dataclass(frozen=True)
class Source:
    """A published archive: its address (None: unknown), its file name, its MD5 (None: not checked)."""

    url: str | None
    filename: str
    md5: str | None


def fetch(source: Source, folder: Path, progress: Progress | None = None) -> Path:
    """Return the archive's file in `folder`; download it if it is missing, and verify its checksum.

    An interrupted download resumes if the server supports that, and restarts otherwise. The file gets its name only
    when it is complete.

    Args:
        source: the archive.
        folder: the folder of the file.
        progress: called with the MiB so far and their total.

    Raises:
        ViceError: wrong checksum, unknown address, no answer, lost connection, or full disk.
    """
    file, part = folder / source.filename, folder / f".{source.filename}.part"
    if file.is_file():
        _check_md5(file, source, "Remove it to download it again, or give the archive as published.")
        return file
    if source.url is None:
        raise ViceError(
            f"{source.filename} is not in {folder}, and its address is unknown.",
            "Put it there, or give the address to download it from: --from URL.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _download(source.url, part, progress)
    except OSError as error:
        if error.filename == str(part):
            error.filename = str(folder)  # the user does not know the part
            raise
        if error.errno == errno.ENOSPC:
            raise ViceError(
                f"The disk is full: {file} is incomplete.", "Free some space and start again; the download resumes."
            ) from None
        raise _no_answer(source, folder, str(getattr(error, "reason", error))) from None
    except http.client.HTTPException as error:
        raise _no_answer(source, folder, repr(error)) from None
    try:
        _check_md5(part, source, "The download is removed. Start again to repeat it.")
    except ViceError:
        part.unlink()
        raise
    os.replace(part, file)
    return file


def _no_answer(source: Source, folder: Path, reason: str) -> ViceError:
    return ViceError(
        f"{source.filename} cannot be downloaded from {source.url}: {reason.rstrip('.')}.",
        f"Start again to resume the download, or put the file into {folder} yourself.",
    )


def _request(url: str, **headers: str) -> urllib.request.Request:
    if not url.startswith(("http://", "https://")):
        raise ViceError(
            f"The address of an archive must begin with http:// or https://, but is {url!r}.",
            "For archives on this machine give their folder: --archives DIR.",
        )
    return urllib.request.Request(url, headers={"User-Agent": "torchvice", **headers})


def _download(url: str, part: Path, progress: Progress | None) -> None:
    """Download `url` to `part`, resuming from the end of what `part` holds."""
    size = part.stat().st_size if part.is_file() else 0
    request = _request(url, **({"Range": f"bytes={size}-"} if size else {}))
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not size:
            raise
        if error.headers.get("Content-Range") == f"bytes */{size}":  # the download was complete
            return
        response = urllib.request.urlopen(_request(url), timeout=SECONDS)  # `part` is longer than the archive
    with response:
        begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        resumes = response.status == 206 and begins is not None and int(begins[1]) == size
        if response.status == 206 and not resumes:
            raise ConnectionError(f"asked to resume from byte {size}, the server sent {begins and begins[0]}")
        length = response.headers.get("Content-Length")
        done = size if resumes else 0
        total = done + int(length) if length else 0
        with part.open("ab" if resumes else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done // MEBIBYTE, max(total, done) // MEBIBYTE)
    if total and done < total:
        raise ConnectionError(f"the connection was lost after {done} of {total} bytes")


def _check_md5(file: Path, source: Source, way_out: str) -> None:
    if source.md5 is None:
        return
    with file.open("rb") as opened:
        md5 = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != source.md5:
        raise ViceError(f"{source.filename} must have the MD5 {source.md5}, but {file} has {md5}.", way_out)


def still_to_fetch(source: Source, folder: Path) -> tuple[int, int]:
    """Return how many bytes of an archive are still to download, and its size; 0 where the server does not say."""
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
        if error.code in (403, 405, 501):  # servers that do not support HEAD
            return 0, 0
        raise _no_answer(source, folder, str(error)) from None
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(source, folder, str(getattr(error, "reason", error))) from None
    return max(0, size - (part.stat().st_size if part.is_file() else 0)), size


def check_space(needed: Sequence[tuple[Path, int]]) -> None:
    """Check that the disks have room for (folder, bytes) pairs; those on the same disk are added up.

    Raises:
        ViceError: a disk has less room.
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
                "Free some space, or give a folder on another disk.",
            )


def fetch_all(
    sources: Mapping[str, Source],
    folder: Path,
    root: Path,
    unpacked: Mapping[str, float],
    progress: Progress | None,
    say: Callable[[str], None],
) -> dict[str, Path]:
    """Fetch every archive after a check of the disk space; return their files by name.

    Args:
        sources: the archives by name.
        folder: the folder of the archives.
        root: the folder of the dataset.
        unpacked: the space that an archive takes in `root`, as a multiple of its size.
        progress: see `fetch`.
        say: called with name and size of each archive.

    Raises:
        ViceError: a folder that is a file or lies in one; see also `check_space` and `fetch`.
    """
    for place in (root, folder):
        _check_place(place)
    sizes = {name: still_to_fetch(source, folder) for name, source in sources.items()}
    written = sum(share * sizes[name][1] for name, share in unpacked.items())
    check_space([(folder, sum(missing for missing, _ in sizes.values())), (root, int(written))])
    files = {}
    for name, source in sources.items():
        say(f"{source.filename} ({sizes[name][1] / 1e6:.0f} MB)")
        files[name] = fetch(source, folder, progress)
    return files


def _check_place(folder: Path) -> None:
    """Check that a folder exists or can be made, before anything is downloaded."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ViceError(
            f"The dataset and its archives must lie in folders, but {there} is a file.",
            "Give another folder: --out DIR (root='DIR') or --archives DIR (archives='DIR').",
        )


@contextlib.contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Turn what a foreign archive makes the unpackers raise into a ViceError.

    Raises:
        ViceError: the archive is damaged or truncated, is packed in a way that Python cannot read, or has a member
            whose path no folder can hold.
    """
    try:
        yield
    except ViceError:
        raise
    except NotImplementedError as error:
        raise ViceError(
            f"The archive {archive} is packed in a way that cannot be read: {error}.",
            f"Unpack it with the program that made it, and pack it again. {KEPT_NOTHING}",
        ) from None
    except OSError as error:
        if error.errno is not None and error.errno not in NO_NAME:
            raise
        reason = str(error) if error.errno is None else f"a path in it cannot be written ({error.strerror})"
        raise ViceError(f"The archive {archive} is damaged: {reason}.", COPY_AGAIN) from None  # gzip's checksum
    except DAMAGE as error:
        # tarfile tells of every way that it tried, one a line.
        reason = reason_of(str(error).partition("\n")[0].rstrip(": "), type(error).__name__)
        raise ViceError(f"The archive {archive} is truncated or damaged: {reason}.", COPY_AGAIN) from None


def safe_name(name: str, archive: Path) -> PurePosixPath:
    """Return the name of a member if it stays in the folder that the archive is unpacked to.

    Raises:
        ViceError: it does not.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ViceError(f"The archive {archive} is refused: {brief(name)} lies outside it.", AS_PUBLISHED)
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
                    f"The archive {archive} is refused: {member.name!r} is neither a file nor a folder.", AS_PUBLISHED
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
            ViceError: more came out than any archive of images holds, or a password protects the member.
        """
        if isinstance(member, zipfile.ZipInfo) and member.flag_bits & ENCRYPTED:
            raise ViceError(
                f"The archive {self.archive} is protected by a password.", "Unpack it, and pack it again without one."
            )
        self.left -= member.size if isinstance(member, tarfile.TarInfo) else member.file_size
        if self.left < 0:
            name = member.name if isinstance(member, tarfile.TarInfo) else member.filename
            raise ViceError(f"The archive {self.archive} is refused: {name!r} is too large for it.", AS_PUBLISHED)
        return member
