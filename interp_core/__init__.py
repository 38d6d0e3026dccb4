"""Any convolutional network explains itself in its own forward pass: local attention pooling (LAP)."""

from interp_core.errors import InterpError
from interp_core.lap.attach import LapModel, attach, create, detach
from interp_core.lap.checkpoint import load, save
from interp_core.lap.explanation import Explanation
from interp_core.training import Recipe, fit

__all__ = ["Explanation", "InterpError", "LapModel", "Recipe", "attach", "create", "detach", "fit", "load", "save"]
