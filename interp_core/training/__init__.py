"""Training: `fit`, its recipe, its losses, and how answers are judged.

    fit(lap, images, targets)                      # from random weights
    fit(lap, images, targets, mode="finetune")     # a trained backbone, which learns slowly
    fit(lap, images, targets, mode="frozen")       # a trained backbone stays as it is

See `docs/training.md`.
"""

from interp_core.lap.model import lap_within
from interp_core.training.augment import shifted
from interp_core.training.callbacks import Bar, CsvLog, Epoch, TensorBoardLog, Watcher
from interp_core.training.data import Regions, Source, batches_of
from interp_core.training.evaluate import at_once, evaluate, predict, right
from interp_core.training.fit import fit
from interp_core.training.losses import Trainable, decision_loss, step_losses
from interp_core.training.modes import start_attention
from interp_core.training.recipe import DEFAULT_TERMS, MAP_TERMS, Mode, Recipe

__all__ = [
    "DEFAULT_TERMS", "MAP_TERMS", "Bar", "CsvLog", "Epoch", "Mode", "Recipe", "Regions", "Source", "TensorBoardLog",
    "Trainable", "Watcher", "at_once", "batches_of", "decision_loss", "evaluate", "fit", "lap_within", "predict",
    "right", "shifted", "start_attention", "step_losses",
]  # fmt: skip
