"""Create backbones by their timm names."""

from __future__ import annotations

from typing import Any

from torch import nn


def create_backbone(name: str, **kwargs: Any) -> nn.Module:
    """`timm.create_model` with an error that lists close names."""
    import timm

    from interp_core.errors import UnknownNameError

    if not timm.is_model(name):
        raise UnknownNameError("backbone", name, timm.list_models())
    return timm.create_model(name, **kwargs)
