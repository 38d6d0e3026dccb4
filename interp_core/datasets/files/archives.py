"""Archives unpacked without surprises: nothing is written outside the folder, no link is made, no bomb goes off.

Pickle never comes into it: what is unpacked is only written. Known limits: permissions and times are not kept; zip
files with passwords are refused; an archive inside an archive stays as it is.
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from interp_core.errors import InterpError, one_line

MOST_BYTES = 2**40
MOST_FILES = 5_000_000
# JPEG and DICOM hardly shrink and text shrinks tenfold; bombs shrink a thousandfold.
MOST_RATIO = 200
# Below this an archive does no harm, whatever its ratio.
HARMLESS = 2**26
BLOCK = 2**20


class UnsafeArchive(InterpError):  # noqa: N818 - says what is wrong
    """An archive that is damaged, or would write where or what it must not."""


@dataclass(frozen=True)
class Limits:
    """What an archive may become.

    Attributes:
        most_bytes: of all files together.
        most_files: in it.
        most_ratio: of bytes unpacked to bytes of the archive, above 64 MiB.
    """

    most_bytes: int = MOST_BYTES
    most_files: int = MOST_FILES
    most_ratio: float = MOST_RATIO


@dataclass(frozen=True)
class _Member:
    name: str
    stream: IO[bytes]


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> list[Path]:
    """Unpack a zip or tar file, compressed or not.

    Args:
        archive: the file; what it is is seen from its content.
        folder: made if it is not there. Files that are there already are not written over.
        limits: what it may become.

    Returns:
        the files written.

    Raises:
        UnsafeArchive: it is none, is damaged, or holds links, devices, paths out of the folder, files that are there
            already, or more than `limits` allow. What was unpacked so far is taken away.
    """
    bounds, written, total = limits or Limits(), [], 0
    most = _most_bytes(archive, bounds)
    try:
        for member in _members(archive, bounds):
            path = _target(folder, member.name, archive)
            written.append(path)
            total += _write(member.stream, path, most - total, archive)
        return written
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        RuntimeError,
        UnicodeError,
    ) as error:
        _take_away(written)
        raise UnsafeArchive(f"cannot unpack {archive}: {one_line(error)}") from error
    except (UnsafeArchive, KeyboardInterrupt):
        _take_away(written)
        raise


def _most_bytes(archive: Path, limits: Limits) -> int:
    try:
        size = archive.stat().st_size
    except OSError as error:
        raise UnsafeArchive(f"cannot read {archive}: {error.strerror}") from error
    return min(limits.most_bytes, max(HARMLESS, int(size * limits.most_ratio)))


def _members(archive: Path, limits: Limits) -> Iterator[_Member]:
    """Files of the archive, one after the other."""
    found = _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)
    for number, member in enumerate(found):
        if number >= limits.most_files:
            raise UnsafeArchive(f"{archive} holds more than {limits.most_files} files: it may be a bomb")
        yield member


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            kind = (entry.external_attr >> 16) & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                raise UnsafeArchive(f"{archive} holds {entry.filename[:200]!r}, which is no plain file")
            if not entry.is_dir():
                with content.open(entry) as stream:
                    yield _Member(entry.filename, stream)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:*") as content:
        for entry in content:
            if entry.isdir():
                continue
            stream = content.extractfile(entry) if entry.isreg() else None
            if stream is None:
                raise UnsafeArchive(f"{archive} holds {entry.name[:200]!r}, which is no plain file")
            with stream:
                yield _Member(entry.name, stream)


def _target(folder: Path, name: str, archive: Path) -> Path:
    """Where a member goes.

    Raises:
        UnsafeArchive: nowhere beneath the folder, or where there is something.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    path = folder.joinpath(*parts) if parts else folder
    outside = not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in name
    if outside or not path.resolve().is_relative_to(folder.resolve()):
        raise UnsafeArchive(f"{archive} would write outside the folder: {name[:200]!r}")
    if os.path.lexists(path):
        raise UnsafeArchive(f"{path} is there already, or twice in {archive}: unpack into an empty folder")
    return path


def _write(stream: IO[bytes], path: Path, most: int, archive: Path) -> int:
    """Write a file block by block; its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("xb") as file:
        while block := stream.read(BLOCK):
            size += len(block)
            if size > most:
                raise UnsafeArchive(f"{archive} unpacks to far more than it holds: it may be a bomb")
            file.write(block)
    return size


def _take_away(written: list[Path]) -> None:
    for path in written:
        if path.is_file():
            path.unlink()
