"""Training: `fit`, its recipe, its losses, and how answers are judged.

    fit(lap, images, targets)                      # from random weights
    fit(lap, images, targets, mode="finetune")     # a trained backbone, which learns slowly
    fit(lap, images, targets, mode="frozen")       # a trained backbone stays as it is

See `docs/training.md`.
"""

from interp_core.model import lap_within
from interp_core.training.augment import shifted
from interp_core.training.fitting import fit
from interp_core.training.judging import at_once, evaluate, predict, right
from interp_core.training.modes import start_attention
from interp_core.training.recipe import DEFAULT_TERMS, MAP_TERMS, Mode, Recipe
from interp_core.training.sources import Regions, Source, batches_of
from interp_core.training.steps import Trainable, decision_loss, step_losses
from interp_core.training.watching import Bar, CsvLog, Epoch, TensorBoardLog, Watcher

__all__ = [
    "DEFAULT_TERMS", "MAP_TERMS", "Bar", "CsvLog", "Epoch", "Mode", "Recipe", "Regions", "Source", "TensorBoardLog",
    "Trainable", "Watcher", "at_once", "batches_of", "decision_loss", "evaluate", "fit", "lap_within", "predict",
    "right", "shifted", "start_attention", "step_losses",
]  # fmt: skip
