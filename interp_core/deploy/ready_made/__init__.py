"""Trained redistributions of networks whose weights people can get.

    interp_core.deploy.ready_made.names()                  # ["tf_efficientnet_lite0.in1k", ...]
    load_ready_made(lap)                                   # the one that was trained on this backbone

A file holds the weights of `interp_core.lap.redistribution` alone, in half precision, and no weight of the backbone. A
JSON file beside it records the fit. No weight belongs to a class, so they serve a new last layer, too.

Limit: they fit the backbone's own weights. A backbone that was trained further needs a fit of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interp_core.errors import ContractError, UnknownNameError, one_line
from interp_core.lap.attach import LapModel

FOLDER = Path(__file__).parent
VALUES = 16  # of the first convolution, by which a backbone is recognised
TOLERANCE = 2e-3  # of the largest of them; half precision rounds by less

__all__ = ["load_ready_made", "names", "read_facts", "write_ready_made"]


def names() -> list[str]:
    """Return the names of all files."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_facts(name: str) -> dict[str, Any]:
    """Return how a file was made.

    Raises:
        UnknownNameError: there is no such file.
    """
    if name not in names():
        raise UnknownNameError("ready-made redistribution", name, names())
    facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return facts


def load_ready_made(lap: LapModel, name: str | None = None) -> str | None:
    """Load a trained redistribution into a LAP model.

    Args:
        lap: the model; only its redistribution changes.
        name: of the file; None for the one that was trained on this backbone.

    Returns:
        The name of the file; None if `name` is None and no file fits.

    Raises:
        UnknownNameError: there is no file of that name.
        ContractError: the file of that name is of another backbone, or of other weights.
    """
    own_fingerprint = fingerprint(lap.backbone)
    for candidate in names() if name is None else [name]:
        if not _is_close(own_fingerprint, read_facts(candidate)["fingerprint"]):
            continue
        weights = {key: value.float() for key, value in load_file(str(FOLDER / f"{candidate}.safetensors")).items()}
        try:
            lap.redistribution.load_state_dict(weights)
        except RuntimeError as error:
            if name is None:
                continue
            raise ContractError(f"{name} has other levels than this model: {one_line(error, limit=200)}") from error
        return candidate
    if name is not None:
        raise ContractError(f"{name} is of another backbone, or of other weights: fit this one (interp_core.fit)")
    return None


def write_ready_made(lap: LapModel, facts: dict[str, Any], path: Path) -> list[Path]:
    """Write the redistribution of a model and the facts of its fit.

    Args:
        lap: a fitted model.
        facts: how it was made, as plain values.
        path: without a suffix.

    Returns:
        The two files, weights and description.
    """
    weights = {key: value.to(torch.float16).contiguous() for key, value in lap.redistribution.state_dict().items()}
    files = path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(files[0]))
    description = {"fingerprint": fingerprint(lap.backbone), **facts}
    files[1].write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return list(files)


def fingerprint(backbone: nn.Module) -> list[float]:
    """Return the first weights of the first convolution, by which a trained backbone is recognised."""
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    values: list[float] = first.weight.detach().float().flatten()[:VALUES].tolist()
    return values


def _is_close(values: list[float], others: list[float]) -> bool:
    first, second = _padded(values), _padded(others)
    return bool((first - second).abs().max() <= TOLERANCE * second.abs().max())


def _padded(values: list[float]) -> Tensor:
    return torch.tensor([*values, *[0.0] * (VALUES - len(values))])
