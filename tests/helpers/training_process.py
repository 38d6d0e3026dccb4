"""One process of a training that several share; started by `test_processes.py` with `accelerate launch`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import torch

from helpers.learners import MemorySource, make_smooth, squares
from interp_core import Recipe, fit
from interp_core.training import DEFAULT_TERMS, Callback, CsvLog

RECIPE = Recipe(epochs=2, batch_size=9, shift=2, flip=True, clip=1.0, patience=2)
UNREADABLE = (1, 4, 11)


class RecordingSource(MemorySource):
    """Source that records the indices of its batches."""

    asked: list[list[int]]

    def batches(self, indices):  # type: ignore[no-untyped-def]
        self.asked = [*getattr(self, "asked", []), *(batch.tolist() for batch in indices)]
        return super().batches(indices)


class CopyCheckpoint(Callback):
    """Copies the checkpoint in the middle of the second epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def step(self, done: int) -> None:
        if done == 5:
            shutil.copy(self.path, self.path.with_name("half.pt"))


def train(checkpoint: Path | None = None, progress=None, unreadable=()):  # type: ignore[no-untyped-def]
    model, (images, targets) = make_smooth(), squares(27)
    source = RecordingSource(images, unreadable)
    history = fit(
        model, source, targets, recipe=RECIPE, terms=DEFAULT_TERMS, validation=squares(20),
        progress=progress, checkpoint=checkpoint, save_every=1,
    )  # fmt: skip
    return {
        "state": model.state_dict(),
        "losses": [epoch.terms for epoch in history],
        "validation": [(epoch.val_accuracy, epoch.val_loss) for epoch in history],
        "asked": source.asked,
    }


def main(folder: Path) -> None:
    rank = os.environ["RANK"]
    results = {"whole": train(progress=CsvLog(folder / f"{rank}.csv")), "gaps": train(unreadable=UNREADABLE)}
    train(folder / "run.pt", progress=CopyCheckpoint(folder / "run.pt"))
    results["resumed"] = train(folder / "half.pt")
    torch.save(results, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
