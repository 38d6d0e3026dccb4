"""Write files whole or not at all: under a temporary name, then renamed. A run may be killed at any point."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from interp_core.errors import StoreError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces it unless the block raises.

    Raises:
        StoreError: the folder cannot be made or the file cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)  # mkstemp gives 0600
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors' writer has an error of its own for a full disk
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"cannot write {path}: {reason}; free it or choose another folder") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write text (UTF-8) or bytes to a file, make its folder, and return the path.

    Raises:
        StoreError: the folder cannot be made or the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
