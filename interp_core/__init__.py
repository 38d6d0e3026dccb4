"""Convolutional networks that explain their own decisions by local attention pooling (LAP).

The names below are imported at first use, so that `interp_core.errors`, `interp_core.registry` and the command line
load without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp_core.backbone.outputs import select_output
    from interp_core.errors import InterpError
    from interp_core.lap.attach import LapModel, attach, create, detach
    from interp_core.lap.checkpoint import load, save
    from interp_core.lap.explanation import Explanation
    from interp_core.training import Recipe, fit

__all__ = [
    "Explanation", "InterpError", "LapModel", "Recipe",
    "attach", "create", "detach", "fit", "load", "save", "select_output",
]  # fmt: skip

_MODULES = {
    "Explanation": "interp_core.lap.explanation",
    "InterpError": "interp_core.errors",
    "LapModel": "interp_core.lap.model",
    "Recipe": "interp_core.training.recipe",
    "attach": "interp_core.lap.attach",
    "create": "interp_core.lap.attach",
    "detach": "interp_core.lap.attach",
    "fit": "interp_core.training.fit",
    "load": "interp_core.lap.checkpoint",
    "save": "interp_core.lap.checkpoint",
    "select_output": "interp_core.backbone.outputs",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
