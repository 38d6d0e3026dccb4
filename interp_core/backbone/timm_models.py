"""Create backbones by their timm names."""

from __future__ import annotations

from typing import Any, TypedDict

from torch import nn

from interp_core.errors import UnknownNameError


class BackboneSpec(TypedDict):
    """Arguments of `timm.create_model`, to build a backbone again."""

    name: str
    kwargs: dict[str, Any]


# Arguments for a network whose weights come from a saved file: do not download or read the original ones.
WITHOUT_WEIGHTS: dict[str, Any] = {"pretrained": False, "checkpoint_path": None, "cache_dir": None}


def create_backbone(name: str, **kwargs: Any) -> nn.Module:
    """Create a timm model.

    Raises:
        UnknownNameError: timm has no such model.
    """
    import timm

    if not timm.is_model(name):
        raise UnknownNameError("backbone", name, timm.list_models())
    model: nn.Module = timm.create_model(name, **kwargs)
    return model
