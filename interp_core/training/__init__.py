"""Training: `fit`, its recipe, its losses, and evaluation.

    fit(lap, images, targets)                      # from random weights
    fit(lap, images, targets, mode="finetune")     # a trained backbone, which learns slowly
    fit(lap, images, targets, mode="frozen")       # a trained backbone does not change

See `docs/training.md`.
"""

from interp_core.lap.model import lap_within
from interp_core.training.augment import shifted
from interp_core.training.callbacks import Callback, CsvLog, Epoch, TensorBoardLog
from interp_core.training.data import Regions, Source, batches_of
from interp_core.training.evaluate import eval_batch_size, evaluate, is_correct, predict
from interp_core.training.fit import fit
from interp_core.training.losses import Trainable, decision_loss, step_losses
from interp_core.training.modes import initialise_attention
from interp_core.training.progress import Bar, Lines
from interp_core.training.recipe import DEFAULT_TERMS, MAP_TERMS, OWN_TERMS, Mode, Recipe

__all__ = [
    "DEFAULT_TERMS",
    "MAP_TERMS",
    "OWN_TERMS",
    "Bar",
    "Callback",
    "CsvLog",
    "Epoch",
    "Lines",
    "Mode",
    "Recipe",
    "Regions",
    "Source",
    "TensorBoardLog",
    "Trainable",
    "batches_of",
    "decision_loss",
    "eval_batch_size",
    "evaluate",
    "fit",
    "initialise_attention",
    "is_correct",
    "lap_within",
    "predict",
    "shifted",
    "step_losses",
]  # fmt: skip
