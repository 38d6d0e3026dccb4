"""Folders of runs: on this machine, or anywhere fsspec reaches (`s3://`, `gs://`, `memory://`, ...).

Local files appear whole or not at all (`benchmarks.store.atomic`). Elsewhere a file is written in one piece from a
local copy,
which object stores make visible at once. Known limit: a file system reached by URL that is no object store may show a
file while it is being written; a cell cut short is set aside when it is read.
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


def is_url(where: object) -> bool:
    """Whether a folder is named by URL, such as s3://bucket/runs."""
    return "://" in str(where)


def open_location(where: Location | str) -> Location:
    """The folder or file of this name.

    Args:
        where: path on this machine, or URL that fsspec knows.

    Raises:
        StoreError: fsspec has no such protocol, or the package behind it is not installed.
    """
    if isinstance(where, Path) or not is_url(where):
        return Path(str(where))
    try:
        found = UPath(where)
        _ = found.fs  # the protocol's package is imported here
    except (ImportError, ValueError) as error:
        raise StoreError(f"cannot use {where}: {one_line(error)}") from error
    return found


def list_files(folder: Location, pattern: str) -> list[Location]:
    """Files of a folder whose names match, such as "*.parquet", in the order of their names."""
    return sorted(cast(Iterable[Location], folder.glob(pattern)), key=str)


@contextmanager
def writing(path: Location) -> Iterator[Path]:
    """A local path to write to, which becomes `path` when the block ends well.

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
    """Write text (UTF-8) or bytes to `path`, whole.

    Raises:
        StoreError: the file cannot be written there.
    """
    with writing(path) as local:
        local.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """A local path to read `path` from, inside the block.

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
    """Give a file another name in its folder; the new path."""
    spare = path.with_name(name)
    if isinstance(path, Path) and isinstance(spare, Path):
        return path.replace(spare)
    spare.write_bytes(path.read_bytes())
    path.unlink()
    return spare
