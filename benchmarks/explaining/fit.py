"""Fit the map of a trained network that stays frozen, without labels, from files to a folder.

The network's own answers are the targets, so any photographs will do, and folders need no classes. Images are read
batch by batch. A fit that was stopped goes on from its last checkpoint, to the same weights bit for bit. The settings
are those of the ready-made maps (`interp_core.deploy.ready_made`), with more epochs where there are few images.

Agreement says what the fit is for, on images that it did not see: the share whose answer stays the same when only the
quarter of the pixels that the map ranks highest is left.

Limit: a fit on photographs of one kind teaches what the network looks at in such photographs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.config.networks import state_digest
from benchmarks.explaining.answers import Report, measure_agreement, predict_answers
from benchmarks.explaining.class_names import check_names
from benchmarks.explaining.fit_files import CHECKPOINT, LOG, FitReport, read_report, write_fit
from benchmarks.explaining.folder_lock import lock_folder
from benchmarks.explaining.images import FileSource, ImageFile, list_images, sample
from benchmarks.explaining.network import NetworkSource, OpenNetwork, attach_to_backbone, source_from
from benchmarks.store.provenance import digest
from interp_core.errors import ContractError
from interp_core.training import Callback, CsvLog, Epoch, Recipe, fit
from interp_core.training.progress import Auto, Progress, duration

VIEWS = 4000  # images that a fit sees in all, where there are fewer than half as many
LEAST_EPOCHS, MOST_EPOCHS = 2, 40
HELD_OUT = 64  # images on which agreement is measured, at most a fifth
STEPS_PER_CHECKPOINT = 20


@dataclass(frozen=True)
class FitOptions:
    """Settings of a fit.

    Attributes:
        images: largest number of images; more are sampled.
        epochs: passes over the images; None for a number by that of images.
        batch_size: images of a step.
        seed: of the sample, of the order and of augmentation.
        memory: GiB for graphs of passes; None for the default of `interp_core.fit`.
        workers: processes that read images; None for one per core.
    """

    images: int = 2000
    epochs: int | None = None
    batch_size: int = 16
    seed: int = 0
    memory: float | None = None
    workers: int | None = None

    def recipe(self, count: int) -> Recipe:
        """Return the recipe for a number of images."""
        by_count = max(LEAST_EPOCHS, min(MOST_EPOCHS, math.ceil(VIEWS / count)))
        return Recipe(
            mode="frozen",
            epochs=by_count if self.epochs is None else self.epochs,
            batch_size=min(self.batch_size, count),
            learning_rate=3e-3,
            weight_decay=0.01,
            flip=True,
            seed=self.seed,
        )


def fit_backbone(
    model: str | NetworkSource,
    data: Sequence[str | Path],
    output: str | Path,
    *,
    options: FitOptions | None = None,
    progress: Progress = "auto",
    classes: Sequence[str] = (),
    notify: Callable[[str], None] = lambda _: None,
    report: Report | None = None,
    **source: Any,
) -> FitReport:
    """Fit the map of a network on images without labels, and write the folder that `explain_images` takes.

    Args:
        model: timm's name, a repository or "file.py:function"; or all about the network.
        data: folders of images, or images.
        output: folder, created if missing. A stopped fit with the same settings goes on there.
        options: of the fit.
        progress: see `interp_core.fit`.
        classes: names of the classes, kept with the network.
        notify: called with a line at the beginning of each phase.
        report: called with a phase, the number of its steps done and of all, in place of `progress`.
        source: fields of `NetworkSource`, such as `weights`, where `model` is a text.

    Returns:
        What the fit did.

    Raises:
        InterpError: the network or the images cannot be opened, or the folder holds something else.
    """
    options, folder = options or FitOptions(), Path(output)
    known = model if isinstance(model, NetworkSource) else source_from(model, source)
    files = list_images(data)
    chosen = sample(files, options.images, options.seed)
    if report is not None:
        progress = _Reported(report, notify)
    sampled = f"{len(chosen)} of {len(files)} images" if len(chosen) < len(files) else f"{len(files)} images"
    with lock_folder(folder):
        opened = attach_to_backbone(known)
        opened = replace(
            opened, classes=tuple(check_names(classes, opened.lap.num_classes)) if classes else opened.classes
        )
        identity = _identity(opened, chosen, options)
        earlier = read_report(folder, identity)
        if earlier is not None:
            return earlier
        notify(f"{sampled} of {opened.view.size} pixels: the network answers them first, without labels")
        return _fit(opened, chosen, folder, options, progress, identity, notify, report or _ignore)


def _fit(
    opened: OpenNetwork,
    files: Sequence[ImageFile],
    folder: Path,
    options: FitOptions,
    progress: Progress,
    identity: dict[str, str],
    notify: Callable[[str], None],
    tell: Report,
) -> FitReport:
    """Fit, measure and write."""
    lap = opened.lap
    with _reading(opened, files, options) as source:
        readable, answers = predict_answers(lap, source, tell)
        if len(readable) < 2:
            reason = next(iter(source.unreadable.values()), "there is one")
            raise ContractError(f"{len(readable)} of {len(files)} images can be read, a fit needs 2: {reason}")
        count = min(HELD_OUT, len(readable) // 5)
        order = torch.randperm(len(readable), generator=torch.Generator().manual_seed(options.seed))
        held_out, learned = order[:count].sort().values, order[count:].sort().values
        unreadable = dict(source.unreadable)
    held_files, fit_files = ([files[int(i)] for i in readable[rows]] for rows in (held_out, learned))
    with _reading(opened, held_files or fit_files[:1], options) as held:
        before = measure_agreement(lap, held)
        goes_on = "goes on from its checkpoint" if (folder / CHECKPOINT).exists() else "begins"
        notify(f"the fit {goes_on}: {len(fit_files)} images, {options.recipe(len(fit_files)).epochs} epochs")
        history = _train(opened, fit_files, answers[learned], folder, options, progress)
        after = measure_agreement(lap, held)
    report = FitReport(
        folder=folder,
        images=len(fit_files),
        epochs=len(history),
        seconds=round(history[-1].seconds, 1),
        losses=(_order_loss(history[0]), _order_loss(history[-1])),
        agreement=(before.agreement, after.agreement),
        answers_kept=float((before.answers == after.answers).float().mean()),
        unreadable=unreadable,
    )
    write_fit(opened, report, folder, identity)
    return report


def _train(
    opened: OpenNetwork,
    files: Sequence[ImageFile],
    answers: Tensor,
    folder: Path,
    options: FitOptions,
    progress: Progress,
) -> list[Epoch]:
    """Fit the redistribution; a checkpoint is written about twenty times."""
    recipe = options.recipe(len(files))
    steps = len(files) // recipe.batch_size
    watchers = [Auto()] if progress == "auto" else [] if progress is None else progress
    with _reading(opened, files, options) as source:
        return fit(
            opened.lap,
            source,
            answers,
            recipe=recipe,
            progress=[*(watchers if isinstance(watchers, Sequence) else [watchers]), CsvLog(folder / LOG)],  # type: ignore[list-item]
            checkpoint=folder / CHECKPOINT,
            save_every=max(1, recipe.epochs * steps // STEPS_PER_CHECKPOINT),
            memory=options.memory,
        )


class _Reported(Callback):
    """Training that reports its steps as a phase."""

    def __init__(self, report: Report, notify: Callable[[str], None]) -> None:
        self.report, self.notify, self.total = report, notify, 0

    def begin(self, total: int, done: int) -> None:
        self.total = total
        self.report("training", done, total)

    def estimate(self, seconds: float) -> None:
        self.notify(f"this will take about {duration(seconds)}")

    def step(self, done: int) -> None:
        self.report("training", done, self.total)


def _ignore(phase: str, done: int, total: int) -> None:
    """Do nothing."""


def _order_loss(epoch: Epoch) -> float:
    return round(epoch.terms["own_order"], 4)


@contextmanager
def _reading(opened: OpenNetwork, files: Sequence[ImageFile], options: FitOptions) -> Any:
    source = FileSource(files, opened.view, opened.lap.info.in_channels, options.workers)
    try:
        yield source
    finally:
        source.close()


def _identity(opened: OpenNetwork, files: Sequence[ImageFile], options: FitOptions) -> dict[str, str]:
    """Return digests of what decides the weights of a fit."""
    sizes = [(file.id, file.path.stat().st_size) for file in files]
    settings = {key: value for key, value in asdict(options).items() if key not in ("memory", "workers")}
    return {
        "network": state_digest(opened.lap.state_dict()),
        "images": digest(sizes),
        "settings": digest(settings, asdict(opened.view)),
    }
