"""Draw damage for `tox -e fuzz`: bytes flipped and cut, JSON and arrays with odd values, in folders that go again."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from interp_core.errors import InterpError

TESTS = 14  # of all files in tests/fuzz
EXAMPLES = int(os.environ.get("INTERP_BENCH_FUZZ", "10000")) // TESTS
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=10_000,
    suppress_health_check=list(HealthCheck),
    database=None,
)
ODD = st.sampled_from(
    [
        "",
        "nan",
        "inf",
        "-1",
        "0",
        "1e400",
        "999999999999",
        "a|b",
        "../x",
        "/etc/passwd",
        "C:\\x\\y.png",
        "\0",
        "é",
        "[1, 2",
    ]
)
ODD_JSON = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.just([[]]), st.just([None]), st.lists(st.floats(), max_size=7), st.just("x" * 5000), st.integers(0, 3),
    st.sampled_from([10**9, 10**12, -1]),
)  # fmt: skip
NAMES = ("", "x", "a/mask", "a/0.mask", "a/x.mask", "scale", "map::a::b", "rows::a::b")


@contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty folder, deleted afterwards."""
    root = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        yield root
    finally:
        shutil.rmtree(root)


def damaged(draw: Any, content: bytes) -> bytes:
    """Flip, cut or insert bytes."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["flip", "cut", "insert", "zero"]))
        if how == "cut" and draw(st.booleans()):
            del data[position:]
        elif how == "insert":
            data[position:position] = draw(st.binary(max_size=8))
        elif how == "zero":
            data[position : position + 16] = bytes(min(16, len(data) - position))
        elif data:
            data[position] = draw(st.integers(0, 255))
    return bytes(data)


def changed(draw: Any, content: Any) -> Any:
    """Replace, remove or repeat a random entry of JSON."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        node, steps = content, draw(st.integers(1, 5))
        for step in range(steps):
            if not isinstance(node, dict | list) or not node:
                break
            key = (
                draw(st.sampled_from(sorted(node, key=str)))
                if isinstance(node, dict)
                else draw(st.integers(0, len(node) - 1))
            )
            if step == steps - 1 or not isinstance(node[key], dict | list) or not node[key]:
                if draw(st.booleans()):
                    node[key] = copy.deepcopy(draw(ODD_JSON))
                else:
                    del node[key]
                break
            node = node[key]
    return content


def as_text(draw: Any, content: Any) -> bytes:
    """Return changed JSON as bytes, damaged or nested without end now and then."""
    text = json.dumps(changed(draw, content)).encode()
    how = draw(st.sampled_from(["sound", "sound", "sound", "damaged", "deep"]))
    if how == "deep":
        return text.replace(b"null", b"[" * 100_000, 1) if b"null" in text else b"[" * 100_000
    return damaged(draw, text) if how == "damaged" else text


def odd_array(draw: Any, array: np.ndarray) -> np.ndarray:
    """Return an array with another type, shape or values."""
    how = draw(st.sampled_from(["type", "shape", "cut", "value", "text", "empty", "number"]))
    if how == "type" and array.dtype.kind in "fiub":
        return array.astype(draw(st.sampled_from(["f2", "i1", "u8", "?", "c8", "f8"])))
    if how == "shape":
        return array.reshape(-1) if draw(st.booleans()) else array[None]
    if how == "cut":
        return array[: draw(st.integers(0, len(array)))] if array.ndim else array
    if how == "value" and array.dtype.kind == "f":
        return np.full_like(array, draw(st.sampled_from([np.nan, np.inf, -np.inf, 0, 1e30])))
    return {"text": np.array(["a", "b"]), "empty": np.zeros((0, 3), np.float32)}.get(how, np.array(3))


def changed_arrays(draw: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replace, remove, rename or add arrays."""
    arrays = dict(arrays)
    for _ in range(draw(st.integers(1, 3))):
        if not arrays:
            break
        name = draw(st.sampled_from(sorted(arrays)))
        how = draw(st.sampled_from(["odd", "odd", "remove", "rename", "copy"]))
        array = arrays[name] if how in ("odd", "copy") else arrays.pop(name)
        if how == "odd":
            arrays[name] = odd_array(draw, array)
        elif how in ("rename", "copy"):
            arrays[
                draw(st.sampled_from(["", "x", "a/mask", "a/0.mask", "a/x.mask", f"{name}::", f"{name}x", "scale"]))
            ] = array
    return arrays


def refused(work: Callable[[], Any]) -> Any:
    """Return the result, or None where it is refused in one line; any other error gets through."""
    try:
        return work()
    except InterpError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return None
