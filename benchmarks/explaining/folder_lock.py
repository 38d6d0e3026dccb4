"""Keep a second process out of a folder that is being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp_core.errors import StoreError, one_line

LOCK = ".lock"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if missing; the lock of a killed process ends with it.

    On systems without `fcntl` nothing is held.

    Raises:
        StoreError: another process holds the folder, or it cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        fcntl = None  # type: ignore[assignment]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {one_line(error)}; give a folder that can be written") from error
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"another process is writing to {folder}: wait for it, or give another --output"
            ) from error
        yield
