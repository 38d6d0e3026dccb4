"""Files appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

from interp_core.errors import StoreError


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write text (UTF-8) or bytes to `path`, making its folder.

    Raises:
        StoreError: the folder cannot be made or the file not written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"cannot write {path}: {reason}; free it or choose another folder") from error
    finally:
        _forget(temporary)
    return path


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
