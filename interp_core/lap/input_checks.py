"""What a LAP model asks of the images and targets it is given, with errors that say what to do."""

from __future__ import annotations

import torch
from torch import Tensor

from interp_core.errors import ContractError


def check_images(images: Tensor, channels: int, reduction: int, device: torch.device) -> None:
    """Images must be (N, channels, H, W), floating point, at least one cell large and where the model is.

    Raises:
        ContractError: they are not.
    """
    wanted = f"explain takes floating point images (N, {channels}, H, W)"
    if not isinstance(images, Tensor):
        raise ContractError(f"{wanted}, got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] != channels or 0 in images.shape:
        raise ContractError(f"{wanted}, got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ContractError(f"{wanted}, got {images.dtype}: normalise the images first")
    if min(images.shape[-2:]) < reduction:
        raise ContractError(
            f"images of {images.shape[-2]} x {images.shape[-1]} pixels are smaller than one cell of the last map "
            f"({reduction} pixels): enlarge them"
        )
    if images.device != device:
        raise ContractError(
            f"the images are on {images.device}, the model on {device}: move one of them, as in images.to('{device}')"
        )


def check_logits(logits: Tensor, images: Tensor) -> None:
    """Logits (N, K) must be finite.

    Raises:
        ContractError: they are not, because images are not or because the network is broken.
    """
    if torch.compiler.is_compiling() or bool(torch.isfinite(logits).all()):
        return
    broken = (~torch.isfinite(images).flatten(1).all(1)).nonzero()[:, 0].tolist()
    if broken:
        raise ContractError(f"images {_some(broken)} hold NaN or infinite values: leave them out or mend them")
    which = (~torch.isfinite(logits).all(1)).nonzero()[:, 0].tolist()
    raise ContractError(
        f"the network's logits of images {_some(which)} are NaN or infinite, the images are not: look at its weights "
        "and at their type"
    )


def check_targets(targets: Tensor | int | None, logits: Tensor) -> Tensor:
    """Class indices (N,): those given, one for all, or the predicted ones.

    Raises:
        ContractError: not class indices, or of a class the model does not have.
    """
    if targets is None:
        return logits.argmax(1)
    try:
        chosen = torch.as_tensor(targets, device=logits.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ContractError(f"targets must be class indices, got {targets!r}") from error
    if (
        chosen.is_floating_point()
        or chosen.is_complex()
        or chosen.ndim > 1
        or (chosen.ndim == 1 and len(chosen) != len(logits))
    ):
        raise ContractError(f"targets must be {len(logits)} class indices or one for all, got {tuple(chosen.shape)}")
    if not torch.compiler.is_compiling() and bool(((chosen < 0) | (chosen >= logits.shape[1])).any()):
        raise ContractError(f"targets must lie in 0..{logits.shape[1] - 1}, got {chosen.tolist()}")
    return chosen.expand(len(logits)).long()


def _some(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:10]))
    return shown + (f" and {len(indices) - 10} more" if len(indices) > 10 else "")
