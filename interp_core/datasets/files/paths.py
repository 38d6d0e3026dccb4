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
# Folders that operating systems, network drives and notebooks put beside images; hidden ones are skipped as well.
SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "system volume information",
     "lost+found", "__pycache__", "ipynb_checkpoints"}
)  # fmt: skip


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
    """List the folders directly in a folder, sorted, without hidden ones and those of the operating system."""
    with os.scandir(root) as entries:
        return sorted(root / entry.name for entry in entries if entry.is_dir() and not _is_system_folder(entry.name))


def walk_files(root: Path, suffixes: frozenset[str] | None = None) -> Iterator[Path]:
    """Yield the files below a folder at any depth, sorted by path, without hidden ones and `SYSTEM_FOLDERS`.

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
        folder_names[:] = sorted(name for name in folder_names if not _is_system_folder(name))
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
        if suffix_of(path.name) in SUFFIXES or _is_nameless_dicom(path):
            yield path
        elif suffix_of(path.name) not in COMPANION_SUFFIXES:
            findings.append(Finding("not an image", relative_id(path, root), "its suffix is not that of an image"))


def _is_nameless_dicom(path: Path) -> bool:
    """Return whether a file without an ending, or named by a unique identifier, is DICOM."""
    if suffix_of(path.name).removeprefix(".").strip("0123456789"):
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _is_system_folder(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def suffix_of(name: str) -> str:
    """Return the suffix of a file name, in lower case with the dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of a million names takes seconds


def list_images(folder: Path) -> list[Path]:
    """List the images directly in a folder, sorted, without hidden ones."""
    files = (path for path in folder.iterdir() if suffix_of(path.name) in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in files if path.is_file())


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


class FileFinder:
    """Finds the files that a table names, though the table was written elsewhere.

    A name is looked for as it stands, then by its end below `root`: without the folders in front of it, without a
    difference in case, and without an ending if it has none. The files are listed when the first name needs it.

    Args:
        root: folder of the data set.
        without: folders that are not searched by the end of a name, such as those of masks.

    Attributes:
        moved: names that were found by their end although they are absolute paths.
        ambiguous: names that the ends of several files fit.
    """

    def __init__(self, root: Path, without: Iterable[Path] = ()) -> None:
        self.root, self.without = root, tuple(without)
        self.moved: list[str] = []
        self.ambiguous: set[str] = set()
        self._by_end: dict[str, list[Path]] | None = None

    def find(self, name: str, folders: Iterable[str]) -> Path | None:
        """Return the file of a name; see `find_file` for the folders that are tried first."""
        path = find_file(self.root, name, folders) or self._find_beneath(name)
        if path is not None:
            return path
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts or ".." in parts or "\0" in name:
            return None
        path = self._find_by_end(name, parts)
        if path is not None and _is_absolute(name):
            self.moved.append(name)
        return path

    def has(self, name: str, folders: Iterable[str]) -> bool:
        """Return whether a name is that of a file, without a note of how it was found."""
        moved, ambiguous = len(self.moved), set(self.ambiguous)
        path = self.find(name, folders)
        del self.moved[moved:]
        self.ambiguous = ambiguous
        return path is not None

    def reason(self, name: str) -> str:
        """Return why a name may not have been found, to be appended to a finding."""
        if name in self.ambiguous:
            return ": several files have this name, write the path below the folder"
        if ".." in name.replace("\\", "/").split("/"):
            return ": a path must lie beneath the folder of the data set"
        if _is_absolute(name):
            return ": an absolute path, and no file of this name lies beneath the folder of the data set"
        return ""

    def _find_beneath(self, name: str) -> Path | None:
        """Return the file of an absolute path that lies beneath the root."""
        if not Path(name).is_absolute() or "\0" in name:
            return None
        for root in (self.root, self.root.absolute(), self.root.resolve()):
            if Path(name).is_relative_to(root):
                return find_file(self.root, Path(name).relative_to(root).as_posix(), (".",))
        return None

    def _find_by_end(self, name: str, parts: Sequence[str]) -> Path | None:
        if self._by_end is None:
            self._by_end = self._list_ends()
        shared = {
            path: _shared_parts(path.relative_to(self.root).parts, parts)
            for path in self._by_end.get(_end_key(parts[-1]), [])
        }
        best = max(shared.values(), default=0)
        closest = [path for path, count in shared.items() if count == best > 0]
        if len(closest) > 1:
            self.ambiguous.add(name)
        if len(closest) != 1:
            return None
        # train/1.png must not be taken for val/1.png; folders of another machine say nothing.
        is_whole = best in (len(parts), len(closest[0].relative_to(self.root).parts))
        return closest[0] if is_whole or _is_absolute(name) else None

    def _list_ends(self) -> dict[str, list[Path]]:
        ends: dict[str, list[Path]] = {}
        for path in walk_files(self.root, SUFFIXES):
            if not any(path.is_relative_to(folder) for folder in self.without):
                ends.setdefault(_end_key(path.name), []).append(path)
        return ends


def _is_absolute(name: str) -> bool:
    plain = name.replace("\\", "/")
    return plain.startswith("/") or plain[1:3] == ":/"


def _end_key(name: str) -> str:
    return name[: -len(suffix)].lower() if (suffix := suffix_of(name)) in SUFFIXES else name.lower()


def _shared_parts(path: Sequence[str], name: Sequence[str]) -> int:
    """Return how many last parts of a path and a name agree; 0 where the name has another ending than the file."""
    suffix = suffix_of(name[-1])
    if suffix in SUFFIXES and suffix != suffix_of(path[-1]):
        return 0
    shared = 1
    while shared < min(len(path), len(name)) and path[-1 - shared].lower() == name[-1 - shared].lower():
        shared += 1
    return shared


def relative_id(path: Path, root: Path) -> str:
    """Return a path below `root` as an id: with slashes, and with escapes for bytes that are not text."""
    return path.relative_to(root).as_posix().encode(errors="backslashreplace").decode()
