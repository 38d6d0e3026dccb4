"""Write and read the two files of a saved model: weights as safetensors, a description as JSON."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from interp_core.errors import StoreError, one_line

FORMAT = 1
READABLE = 0o644
CAREFREE = 2**20  # numbers up to this ask for no memory to speak of, however small the file is
# Weights that files of the first version do not have.
ADDED = re.compile(r"redistribution\.|gates\.\d+\.trained$")


def file_pair(path: str | Path) -> tuple[Path, Path]:
    """Return the paths of weights and description, `path`.safetensors and `path`.json."""
    path = Path(path)
    return path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")


def write_files(model: nn.Module, description: dict[str, Any], weights_path: Path, description_path: Path) -> None:
    """Write a model and its description.

    Missing folders are created. Each file is replaced as a whole, the description last.

    Args:
        model: its state dict is written.
        description: how to build it again, as plain values.
        weights_path: file for the weights.
        description_path: file for the description.

    Raises:
        StoreError: the description cannot be written as JSON, or a file cannot be written.
    """
    try:
        text = json.dumps({"format": FORMAT, **description}, indent=2)
    except TypeError as error:
        raise StoreError(
            f"{description_path} cannot hold how the model was made: {one_line(error)}; use plain values"
        ) from error
    replace_file(weights_path, lambda path: save_model(model, str(path)))
    replace_file(description_path, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place and move it there, so that a full disk or a kill leaves the previous one.

    Args:
        path: of the file; missing folders are created.
        write: writes the content to a path.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.chmod(READABLE)  # safetensors gives 0600
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"cannot write {path}: {one_line(error)}; free space, or give another folder") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_description(path: Path) -> dict[str, Any]:
    """Return the description in a file.

    Raises:
        StoreError: the file is missing, damaged or of another format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: {one_line(error)}; save the model again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StoreError(f"{path} is not a LAP model of format {FORMAT}")
    return content


def check_numbers(description: dict[str, Any], weights_path: Path, description_path: Path) -> None:
    """Check that no number of a description asks for more than its weights can hold, before a model is built.

    Args:
        description: content of its file.
        weights_path: file with the weights.
        description_path: of the description, for the message.

    Raises:
        StoreError: there is no file of weights, or a number is above the number of its bytes and `CAREFREE`.
    """
    try:
        most = weights_path.stat().st_size
    except OSError as error:
        raise StoreError(f"cannot load {weights_path}: {one_line(error)}") from error
    parts = [description.get("recipe"), description.get("options")]
    largest = max((abs(number) for number in _numbers(parts)), default=0)
    if largest > max(most, CAREFREE):
        raise StoreError(
            f"{description_path} asks for {largest:g} of something, and {weights_path.name} has {most} bytes: copy "
            "both files again, or save the model again"
        )


def _numbers(content: Any) -> Iterator[float]:
    """Yield all numbers of plain values."""
    if isinstance(content, int) or (isinstance(content, float) and not math.isnan(content)):
        yield min(max(content, -1e300), 1e300)  # longer integers do not fit a float
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    for value in values:
        yield from _numbers(value)


def read_weights(model: nn.Module, path: Path) -> None:
    """Load the weights in a file into a model.

    Parts that files of older versions lack keep their initial values, which change no logit; see `ADDED`.

    Raises:
        StoreError: the file is missing or damaged, or the weights do not fit the model.
    """
    try:
        missing, unexpected = load_model(model, str(path), strict=False)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise StoreError(f"cannot load {path}: {one_line(error)}; give the backbone it was saved with") from error
    lacking = [key for key in missing if not ADDED.match(key)]
    if lacking or unexpected:
        names = ", ".join(sorted([*lacking, *unexpected])[:5])
        raise StoreError(f"cannot load {path}: these weights do not fit: {names}; give the backbone it was saved with")
