"""Find the files of a data set: required files, images below a folder, paths named in tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.records import Finding
from interp_core.errors import InterpError

# Suffixes of files that usually lie beside images, or that operating systems put there.
COMPANION_SUFFIXES = frozenset(
    {".txt", ".csv", ".xml", ".json", ".md", ".db", ".ini", ".html", ".yaml", ".tsv", ".pdf", ".log"}
)


class MissingFile(InterpError):  # noqa: N818 - the name says what is wrong
    """A file or folder of a data set that is not where it should be."""


def require_folder(path: Path, content: str = "the data set") -> Path:
    """Return a folder if it exists.

    Args:
        path: the folder.
        content: what it should hold, for the error.

    Raises:
        MissingFile: it is not a folder.
    """
    if not path.is_dir():
        raise MissingFile(f"{path} is not a folder: give the one that holds {content} (dataset.root, or --root)")
    return path


def first_existing(root: Path, names: Iterable[str]) -> Path | None:
    """Return the first of these paths below `root` that exists, or None."""
    return next((root / name for name in names if (root / name).exists()), None)


def require_path(root: Path, names: Sequence[str], description: str) -> Path:
    """Return the first of these paths below `root` that exists.

    Args:
        root: folder of the data set.
        names: possible paths.
        description: what the page of the data set calls the file, and where it is offered.

    Raises:
        MissingFile: none exists.
    """
    path = first_existing(require_folder(root), names)
    if path is None:
        raise MissingFile(f"{root} lacks {names[0]}: {description}")
    return path


def list_folders(root: Path) -> list[Path]:
    """List the folders directly in a folder, sorted, without hidden ones."""
    with os.scandir(root) as entries:
        return sorted(root / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def walk_files(root: Path, suffixes: frozenset[str] | None = None) -> Iterator[Path]:
    """Yield the files below a folder at any depth, sorted by path, without hidden ones.

    Links to folders are followed, but no folder is visited twice.

    Args:
        root: where to look.
        suffixes: suffixes to select, in lower case with the dot; None for all.
    """
    visited: set[str] = set()
    for folder, folder_names, file_names in os.walk(root, followlinks=True):
        real_path = os.path.realpath(folder)
        if real_path in visited:
            folder_names[:] = []
            continue
        visited.add(real_path)
        folder_names[:] = sorted(name for name in folder_names if not name.startswith("."))
        for name in sorted(file_names):
            if not name.startswith(".") and (suffixes is None or suffix_of(name) in suffixes):
                yield Path(folder, name)


def walk_images(root: Path, findings: list[Finding]) -> Iterator[Path]:
    """Yield the images below a folder in the order of `walk_files`.

    Args:
        root: where to look.
        findings: list to which files are added that are neither images nor usual companions of images.
    """
    for path in walk_files(root):
        if suffix_of(path.name) in SUFFIXES:
            yield path
        elif suffix_of(path.name) not in COMPANION_SUFFIXES:
            findings.append(Finding("not an image", relative_id(path, root), "its suffix is not that of an image"))


def suffix_of(name: str) -> str:
    """Return the suffix of a file name, in lower case with the dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names takes seconds


def list_images(folder: Path) -> list[Path]:
    """List the images directly in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if suffix_of(path.name) in SUFFIXES and path.is_file())


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Map stems to files; the first file of each stem counts."""
    paths_by_stem: dict[str, Path] = {}
    for path in paths:
        paths_by_stem.setdefault(path.stem, path)
    return paths_by_stem


def resolve_beneath(root: Path, name: str) -> Path | None:
    """Return the path that a table names if it stays below `root`.

    Returns:
        The path; None for absolute paths, paths with "..", and empty names.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] in ("/", "//") or ":" in parts[0] or ".." in parts or "\0" in name:
        return None
    return root.joinpath(*parts)


def find_file(root: Path, name: str, folders: Iterable[str]) -> Path | None:
    """Return the file that a table names, from the first of `folders` below `root` that holds it, or None."""
    for folder in folders:
        path = resolve_beneath(root / folder, name)
        try:
            if path is not None and path.is_file():
                return path
        except (OSError, ValueError):  # a name that no file can have, such as one of a thousand letters
            return None
    return None


def relative_id(path: Path, root: Path) -> str:
    """Return a path below `root` as an id: with slashes, and with escapes for bytes that are not text."""
    return path.relative_to(root).as_posix().encode(errors="backslashreplace").decode()
