"""Any convolutional network explains itself in its own forward pass: local attention pooling (LAP)."""

from interp_core.attach import LapModel, attach, create, detach
from interp_core.checkpoint import load, save
from interp_core.errors import InterpError
from interp_core.explanation import Explanation
from interp_core.training import Recipe, fit

__all__ = ["Explanation", "InterpError", "LapModel", "Recipe", "attach", "create", "detach", "fit", "load", "save"]
