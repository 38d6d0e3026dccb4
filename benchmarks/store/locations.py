"""Folders and files of runs on this machine, or anywhere fsspec reaches (`s3://`, `gs://`, `memory://`, ...).

Local files appear whole or not at all (`benchmarks.store.atomic`). A remote file is written in one piece from a local
copy; object stores make it visible at once. Known limit: another remote file system may show a file while it is being
written; a cell that was cut short is renamed when it is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, cast

from upath import UPath

from benchmarks.store.atomic import atomic_file
from interp_core.errors import StoreError, one_line

Location: TypeAlias = Path | UPath


def is_url(name: object) -> bool:
    """Return whether a folder is named by a URL, such as s3://bucket/runs."""
    return "://" in str(name)


def open_location(name: Location | str) -> Location:
    """Return the path object of a folder or file.

    Args:
        name: path on this machine, or a URL that fsspec knows.

    Raises:
        StoreError: fsspec has no such protocol, or the package behind it is not installed.
    """
    if isinstance(name, Path) or not is_url(name):
        return Path(str(name))
    try:
        location = UPath(name)
        _ = location.fs  # the protocol's package is imported here
    except (ImportError, ValueError) as error:
        raise StoreError(f"cannot use {name}: {one_line(error)}") from error
    return location


def list_files(folder: Location, pattern: str) -> list[Location]:
    """Return the files of a folder that match a pattern such as "*.parquet", sorted by name."""
    return sorted(cast(Iterable[Location], folder.glob(pattern)), key=str)


@contextmanager
def writing(path: Location) -> Iterator[Path]:
    """Yield a local path to write to; its file becomes `path` unless the block raises.

    Raises:
        StoreError: the file cannot be written there.
    """
    if isinstance(path, Path):
        with atomic_file(path) as local:
            yield local
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / path.name
        yield local
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(local.read_bytes())
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error}; choose another folder with --output") from error


def write_file(path: Location, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to a file, whole.

    Raises:
        StoreError: the file cannot be written there.
    """
    with writing(path) as local:
        local.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """Yield a local path that has the content of a file, inside the block.

    Raises:
        OSError: there is no such file.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / path.name
        local.write_bytes(path.read_bytes())
        yield local


def rename(path: Location, name: str) -> Location:
    """Rename a file within its folder, and return the new path."""
    target = path.with_name(name)
    if isinstance(path, Path) and isinstance(target, Path):
        return path.replace(target)
    target.write_bytes(path.read_bytes())
    path.unlink()
    return target
