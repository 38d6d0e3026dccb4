"""Unpack zip and tar files safely: nothing outside the folder, no links, no decompression bombs.

Members are checked by name, kind and size before Python's `zipfile` or `tarfile` (with `filter="data"`) extracts them.
Known limits: zip files with passwords are refused; an archive inside an archive is not unpacked.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from interp_core.errors import InterpError, one_line

MOST_BYTES = 2**40
MOST_FILES = 5_000_000
# JPEG and DICOM hardly shrink and text shrinks tenfold; bombs shrink a thousandfold.
MOST_RATIO = 200
# Below this size an archive does no harm, whatever its ratio.
HARMLESS_BYTES = 2**26


class UnsafeArchive(InterpError):  # noqa: N818 - the name says what is wrong
    """An archive that is damaged, or that would write something it must not."""


@dataclass(frozen=True)
class Limits:
    """Maximum size of an unpacked archive.

    Attributes:
        most_bytes: total size of the files.
        most_files: number of files.
        most_ratio: total size relative to the size of the archive; archives that unpack to less than 64 MiB are exempt.
    """

    most_bytes: int = MOST_BYTES
    most_files: int = MOST_FILES
    most_ratio: float = MOST_RATIO


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> list[Path]:
    """Unpack a zip or tar file, compressed or not; the format is detected from the content.

    Args:
        archive: the file.
        folder: target folder, which is created if needed. Existing files are not overwritten.
        limits: maximum size.

    Returns:
        The files written.

    Raises:
        UnsafeArchive: the file is not an archive, is damaged, holds links, devices, paths out of the folder or files
            that exist already, or exceeds `limits`. Files written so far are deleted.
    """
    members = _MemberCheck(archive, folder, limits or Limits())
    try:
        if zipfile.is_zipfile(archive):
            _extract_zip(archive, folder, members)
        else:
            _extract_tar(archive, folder, members)
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
        _delete(members.paths)
        raise UnsafeArchive(f"cannot unpack {archive}: {one_line(error)}") from error
    except (UnsafeArchive, KeyboardInterrupt):
        _delete(members.paths)
        raise
    return members.paths


@dataclass
class _MemberCheck:
    """Checks members one by one before they are extracted.

    Attributes:
        archive: the archive.
        folder: target folder.
        limits: maximum size.
        paths: files admitted so far.
        size: their total size in bytes.
    """

    archive: Path
    folder: Path
    limits: Limits
    paths: list[Path] = field(default_factory=list)
    size: int = 0

    def __post_init__(self) -> None:
        try:
            archive_size = self.archive.stat().st_size
        except OSError as error:
            raise UnsafeArchive(f"cannot read {self.archive}: {error.strerror}") from error
        bound = max(HARMLESS_BYTES, int(archive_size * self.limits.most_ratio))
        self.most_bytes = min(self.limits.most_bytes, bound)

    def admit(self, name: str, size: int, is_plain: bool) -> str:
        """Check a member and return its path relative to the folder.

        Args:
            name: path in the archive.
            size: size of the unpacked file in bytes.
            is_plain: whether it is a plain file, not a link or device.

        Raises:
            UnsafeArchive: it must not be extracted.
        """
        if not is_plain:
            raise UnsafeArchive(f"{self.archive} holds {name[:200]!r}, which is not a plain file")
        if len(self.paths) >= self.limits.most_files:
            raise UnsafeArchive(f"{self.archive} holds more than {self.limits.most_files} files: it may be a bomb")
        self.size += size
        if self.size > self.most_bytes:
            raise UnsafeArchive(f"{self.archive} unpacks to far more than its own size: it may be a bomb")
        relative = name.replace("\\", "/")
        self.paths.append(self._target(relative))
        return relative

    def _target(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        path = self.folder.joinpath(*parts) if parts else self.folder
        outside = not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in name
        if outside or not path.resolve().is_relative_to(self.folder.resolve()):
            raise UnsafeArchive(f"{self.archive} would write outside the folder: {name[:200]!r}")
        if os.path.lexists(path):
            raise UnsafeArchive(f"{path} exists already, or is twice in {self.archive}: unpack into an empty folder")
        return path


def _extract_zip(archive: Path, folder: Path, members: _MemberCheck) -> None:
    with zipfile.ZipFile(archive) as content:
        for entry in content.infolist():
            if entry.is_dir():
                continue
            kind = stat.S_IFMT(entry.external_attr >> 16)
            entry.filename = members.admit(entry.filename, entry.file_size, kind in (0, stat.S_IFREG))
            content.extract(entry, folder)


def _extract_tar(archive: Path, folder: Path, members: _MemberCheck) -> None:
    with tarfile.open(archive, "r:*") as content:
        for entry in content:
            if entry.isdir():
                continue
            name = members.admit(entry.name, entry.size, entry.isreg())
            content.extract(entry.replace(name=name, deep=False), folder, filter="data")


def _delete(paths: list[Path]) -> None:
    for path in paths:
        if path.is_file():
            path.unlink()
