"""Fit LAP on one's own network and explain one's own images, from files to files.

    fit_backbone("mobilenetv2_100", ["photographs"], "lap", weights="mine.pt")
    explain_images("lap", ["cat.jpg", "more photographs"], "maps")

Names are imported when they are first used, so that the command line starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.explaining.explain import ExplainOptions, ExplainReport, explain_images
    from benchmarks.explaining.fit import FitOptions, fit_backbone
    from benchmarks.explaining.fit_files import FitReport

_MODULES = {
    "ExplainOptions": "explain",
    "ExplainReport": "explain",
    "FitOptions": "fit",
    "FitReport": "fit_files",
    "explain_images": "explain",
    "fit_backbone": "fit",
}
__all__ = ["ExplainOptions", "ExplainReport", "FitOptions", "FitReport", "explain_images", "fit_backbone"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
