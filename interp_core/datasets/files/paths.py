"""Which files lie in a folder, and where a data set's own files are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.records import Finding
from interp_core.errors import InterpError

# What lies beside images on purpose or is put there by operating systems.
BESIDE = frozenset({".txt", ".csv", ".xml", ".json", ".md", ".db", ".ini", ".html", ".yaml", ".tsv", ".pdf", ".log"})


class MissingFile(InterpError):  # noqa: N818 - says what is wrong
    """A file or folder of a data set that is not where it should be."""


def require_folder(path: Path, what: str = "the data set") -> Path:
    """The folder itself.

    Raises:
        MissingFile: it is none.
    """
    if not path.is_dir():
        raise MissingFile(f"{path} is no folder: give the one that holds {what} (dataset.root, or --root)")
    return path


def first_existing(root: Path, names: Iterable[str]) -> Path | None:
    """The first of these paths beneath `root` that exists."""
    return next((root / name for name in names if (root / name).exists()), None)


def require_path(root: Path, names: Sequence[str], called: str) -> Path:
    """The first of these paths beneath `root` that exists.

    Args:
        root: of the data set.
        names: where it may lie.
        called: what the data set's page calls it and where it is offered.

    Raises:
        MissingFile: none exists.
    """
    found = first_existing(require_folder(root), names)
    if found is None:
        raise MissingFile(f"{root} lacks {names[0]}: {called}")
    return found


def list_folders(root: Path) -> list[Path]:
    """Folders in a folder, sorted, without hidden ones."""
    with os.scandir(root) as entries:
        return sorted(root / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def walk_files(root: Path, endings: frozenset[str] | None = None) -> Iterator[Path]:
    """Files beneath a folder at any depth, sorted by path, without hidden ones; no folder twice.

    Args:
        root: where to look.
        endings: wanted, in lower case with the dot; None for all.
    """
    seen: set[str] = set()
    for folder, names, found in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else sorted(name for name in names if not name.startswith("."))
        if real in seen:
            continue
        seen.add(real)
        for name in sorted(found):
            if not name.startswith(".") and (endings is None or suffix_of(name) in endings):
                yield Path(folder, name)


def walk_images(root: Path, findings: list[Finding]) -> Iterator[Path]:
    """Images beneath a folder as `walk_files` gives them.

    Args:
        root: where to look.
        findings: is told of files that are neither images nor what usually lies beside them.
    """
    for path in walk_files(root):
        if suffix_of(path.name) in SUFFIXES:
            yield path
        elif suffix_of(path.name) not in BESIDE:
            findings.append(Finding("not an image", relative_id(path, root), "its name has no image's ending"))


def suffix_of(name: str) -> str:
    """The ending of a file's name, in lower case with the dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names takes seconds


def list_images(folder: Path) -> list[Path]:
    """Images right in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if suffix_of(path.name) in SUFFIXES and path.is_file())


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their name without its ending; the first of each."""
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(path.stem, path)
    return found


def resolve_beneath(root: Path, name: str) -> Path | None:
    """The path a table names, if it stays beneath `root`; None for absolute ones, those with "..", and no name."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] in ("/", "//") or ":" in parts[0] or ".." in parts or "\0" in name:
        return None
    return root.joinpath(*parts)


def find_file(root: Path, name: str, where: Iterable[str]) -> Path | None:
    """The file a table names, in the first of some folders beneath `root` that holds it; None where none does."""
    for folder in where:
        path = resolve_beneath(root / folder, name)
        try:
            if path is not None and path.is_file():
                return path
        except (OSError, ValueError):  # a name no file can have, such as one of a thousand letters
            return None
    return None


def relative_id(path: Path, root: Path) -> str:
    """A path beneath `root` as an id: with slashes, and with escapes for bytes that are no text."""
    return path.relative_to(root).as_posix().encode(errors="backslashreplace").decode()
