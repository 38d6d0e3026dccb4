"""Checks of images, targets and logits of a LAP model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from interp_core.backbone.geometry import CellGrid
from interp_core.errors import ContractError, one_line


def check_images(images: Tensor, channels: int, parameter: Tensor) -> None:
    """Check the shape, type and device of images.

    They must be floating point (N, channels, H, W), of the model's type and on its device.

    Args:
        images: to explain.
        channels: of the model's images.
        parameter: of the model.

    Raises:
        ContractError: they are not.
    """
    expected = f"explain takes floating point images (N, {channels}, H, W)"
    if not isinstance(images, Tensor):
        raise ContractError(f"{expected}, got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape:
        raise ContractError(f"{expected}, got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ContractError(f"{expected}, got {images.dtype}: normalise the images first")
    if images.device != parameter.device:
        raise ContractError(
            f"the images are on {images.device}, the model on {parameter.device}: move one of them, as in "
            f"images.to('{parameter.device}')"
        )
    if images.dtype != parameter.dtype and not torch.is_autocast_enabled(images.device.type):
        raise ContractError(
            f"the images are of type {images.dtype}, the model of {parameter.dtype}: convert one of them, as in "
            f"images.to({parameter.dtype})"
        )


def check_size(images: Tensor, grid: CellGrid) -> None:
    """Check that images are at least one cell large.

    Args:
        images: (N, C, H, W).
        grid: of the last map, at their size.

    Raises:
        ContractError: they are not.
    """
    (height, width), (rows, columns) = images.shape[-2:], grid.pitch
    if height < rows or width < columns:
        cell = f"{rows:g}" if rows == columns else f"{rows:g} x {columns:g}"
        raise ContractError(
            f"images of {height} x {width} pixels are smaller than one cell of the last map ({cell} pixels): "
            "enlarge them"
        )


@contextmanager
def name_size(images: Tensor, size: tuple[int, int]) -> Iterator[None]:
    """Name the size of images on which a network fails, if it was never tried with that size.

    Args:
        images: (N, C, H, W).
        size: rows and columns that it was inspected with.

    Raises:
        ContractError: instead of the network's own error.
    """
    try:
        yield
    except (RuntimeError, ValueError, AssertionError) as error:
        height, width = images.shape[-2:]
        if (height, width) == size or isinstance(error, torch.OutOfMemoryError):
            raise
        raise ContractError(
            f"the network failed on images of {height} x {width} pixels: {one_line(error, limit=150)}; it was "
            f"inspected with {size[0]} x {size[1]}: resize them, or attach LAP with image_size=({height}, {width})"
        ) from error


def check_logits(logits: Tensor, images: Tensor) -> None:
    """Check that logits (N, K) are finite.

    Raises:
        ContractError: they are not, because the images are not or because the network is broken.
    """
    if torch.compiler.is_compiling() or bool(torch.isfinite(logits).all()):
        return
    broken = (~torch.isfinite(images).flatten(1).all(1)).nonzero()[:, 0].tolist()
    if broken:
        raise ContractError(f"images {_list_first(broken)} hold NaN or infinite values: leave them out or fix them")
    indices = (~torch.isfinite(logits).all(1)).nonzero()[:, 0].tolist()
    raise ContractError(
        f"the network's logits of images {_list_first(indices)} are NaN or infinite, the images are not: look at its "
        "weights and at their type"
    )


def check_targets(targets: Tensor | int | None, logits: Tensor) -> Tensor:
    """Return class indices (N,).

    Args:
        targets: (N,) class indices, one class for all images, or None for the predicted classes.
        logits: (N, K).

    Raises:
        ContractError: not class indices, or of a class the model does not have.
    """
    if targets is None:
        return logits.argmax(1)
    return class_indices(targets, len(logits), logits.shape[1], logits.device)


def class_indices(targets: Any, count: int, classes: int | None, device: torch.device) -> Tensor:
    """Return class indices (N,) int64 on a device.

    Args:
        targets: N class indices or one for all, of any integer type, as tensor, array, list or number.
        count: N.
        classes: K; None if it is not known.
        device: of the images.

    Raises:
        ContractError: not class indices, or of a class the model does not have.
    """
    try:
        indices = torch.as_tensor(targets, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ContractError(f"targets must be class indices, got {_shorten(repr(targets))}") from error
    is_integer = not indices.is_floating_point() and not indices.is_complex()
    if not is_integer or indices.ndim > 1 or (indices.ndim == 1 and len(indices) != count):
        raise ContractError(
            f"targets must be {count} class indices or one for all, got {tuple(indices.shape)} {indices.dtype}"
        )
    indices = indices.long()
    if classes is not None and not torch.compiler.is_compiling() and bool(((indices < 0) | (indices >= classes)).any()):
        single = "; the one logit of a binary network is target 0, and negative values speak for the other class"
        raise ContractError(
            f"targets must lie in 0..{classes - 1}, got {_shorten(str(indices.tolist()))}{single * (classes == 1)}"
        )
    # One made in inference mode cannot take part in a gradient.
    return indices.expand(count).clone() if indices.is_inference() else indices.expand(count)


def _shorten(text: str, limit: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}..."


def _list_first(indices: list[int]) -> str:
    text = ", ".join(map(str, indices[:10]))
    return text + (f" and {len(indices) - 10} more" if len(indices) > 10 else "")
