"""Fit the map of a trained network that stays frozen, without labels, from files to a folder.

The network's own answers are the targets, so any photographs will do, and folders need no classes. Images are read
batch by batch. A fit that was stopped goes on from its last checkpoint, to the same weights bit for bit. The settings
are those of the ready-made maps (`interp_core.deploy.ready_made`), with more epochs where there are few images.

Agreement says what the fit is for, on images that it did not see: the share whose answer stays the same when only the
quarter of the pixels that the map ranks highest is left.

Limit: a fit on photographs of one kind teaches what the network looks at in such photographs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.config.networks import state_digest
from benchmarks.explaining.class_names import check_names
from benchmarks.explaining.folder_lock import lock_folder
from benchmarks.explaining.images import FileSource, ImageFile, list_images, sample
from benchmarks.explaining.network import NetworkSource, OpenNetwork, attach_to_backbone, describe, source_from
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import digest, provenance
from interp_core.errors import ContractError, StoreError
from interp_core.lap.hub import DESCRIPTION, WEIGHTS
from interp_core.lap.model import LapModel
from interp_core.training import CsvLog, Epoch, Recipe, eval_batch_size, fit
from interp_core.training.progress import Auto, Progress

FACTS, CHECKPOINT, LOG = "fit.json", "fit.checkpoint", "log.csv"
VIEWS = 4000  # images that a fit sees in all, where there are fewer than half as many
LEAST_EPOCHS, MOST_EPOCHS = 2, 40
HELD_OUT = 64  # images on which agreement is measured, at most a fifth
KEPT_SHARE = 0.25  # of the pixels of an image
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


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        folder: of the fitted network.
        images: number of images it learned from.
        epochs: passes over them.
        seconds: time of the training.
        losses: loss of the order of pixels in the first and in the last epoch, in nats.
        agreement: share of held-out images with the same answer to the map's upper quarter alone, before and after.
        answers_kept: share of held-out images with the same answer as before the fit.
        unreadable: reasons by name of the images that were left out.
        was_done: whether the fit was complete before, so that nothing was computed.
    """

    folder: Path
    images: int
    epochs: int
    seconds: float
    losses: tuple[float, float]
    agreement: tuple[float, float]
    answers_kept: float
    unreadable: dict[str, str]
    was_done: bool = False


def fit_backbone(
    model: str | NetworkSource,
    data: Sequence[str | Path],
    output: str | Path,
    *,
    options: FitOptions | None = None,
    progress: Progress = "auto",
    classes: Sequence[str] = (),
    notify: Callable[[str], None] = lambda _: None,
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
    sampled = f"{len(chosen)} of {len(files)} images" if len(chosen) < len(files) else f"{len(files)} images"
    with lock_folder(folder):
        opened = attach_to_backbone(known)
        opened = replace(
            opened, classes=tuple(check_names(classes, opened.lap.num_classes)) if classes else opened.classes
        )
        identity = _identity(opened, chosen, options)
        report = _read_report(folder, identity)
        if report is not None:
            return report
        notify(f"{sampled} of {opened.view.size} pixels: the network answers them first, without labels")
        return _fit(opened, chosen, folder, options, progress, identity, notify)


def _fit(
    opened: OpenNetwork,
    files: Sequence[ImageFile],
    folder: Path,
    options: FitOptions,
    progress: Progress,
    identity: dict[str, str],
    notify: Callable[[str], None],
) -> FitReport:
    """Fit, measure and write."""
    lap = opened.lap
    with _reading(opened, files, options) as source:
        readable, answers = predict_answers(lap, source)
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
    _write(opened, report, folder, identity)
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


@torch.no_grad()
def predict_answers(lap: LapModel, source: FileSource) -> tuple[Tensor, Tensor]:
    """Return the indices (n,) of the images that can be read, and the network's targets for `fit`, (n,) or (n, 1)."""
    device = next(lap.parameters()).device
    rows, logits = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, lap.num_classes)]
    parts = torch.split(torch.arange(len(source)), eval_batch_size(source.shape))
    for indices, images in source.batches(parts):
        if len(images):
            rows.append(indices)
            logits.append(lap(images.to(device)).float().cpu())
    outputs = torch.cat(logits)
    # One logit is a class of its own, with a sigmoid: present or not.
    return torch.cat(rows), (outputs > 0).float() if lap.num_classes == 1 else outputs.argmax(1)


@dataclass(frozen=True)
class Agreement:
    """Answers to images and to the upper parts of their maps.

    Attributes:
        answers: (n,) to the images.
        agreement: share with the same answer to the upper part alone.
    """

    answers: Tensor
    agreement: float


@torch.no_grad()
def measure_agreement(lap: LapModel, source: FileSource) -> Agreement:
    """Measure how often the pixels that the map ranks highest keep the answer, all others in the mean colour."""
    device = next(lap.parameters()).device
    answers, agree = [], []
    for _, images in source.batches(torch.split(torch.arange(len(source)), eval_batch_size(source.shape))):
        if len(images):
            pixels = images.to(device)
            explanation = lap.explain(pixels)
            kept = lap(pixels * upper_part(explanation.map, KEPT_SHARE))
            answers.append(_answers(explanation.logits).cpu())
            agree.append(_answers(kept).cpu() == answers[-1])
    if not answers:
        return Agreement(torch.empty(0), float("nan"))
    return Agreement(torch.cat(answers), float(torch.cat(agree).float().mean()))


def upper_part(maps: Tensor, share: float) -> Tensor:
    """Mark the highest share of pixels of each map (N, 1, H, W), 1.0 or 0.0.

    >>> upper_part(torch.tensor([[[[1.0, 4.0], [3.0, 2.0]]]]), 0.5).tolist()
    [[[[0.0, 1.0], [1.0, 0.0]]]]
    """
    flat = maps.flatten(1)
    count = max(1, round(share * flat.shape[1]))
    level = flat.topk(count, dim=1).values[:, -1]
    return (maps >= level[:, None, None, None]).to(maps.dtype)


def _answers(logits: Tensor) -> Tensor:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


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


def _read_report(folder: Path, identity: dict[str, str]) -> FitReport | None:
    """Return the report of a complete fit in a folder, None for a fit to begin or to go on with.

    Raises:
        StoreError: the folder holds a fit of something else.
    """
    path = folder / FACTS
    if not path.exists():
        if any((folder / name).exists() for name in (WEIGHTS, DESCRIPTION)):
            raise StoreError(f"{folder} holds a network that no fit wrote: give another --output")
        write_atomically(path, json.dumps({"identity": identity, "report": None}, indent=1) + "\n")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored, report = content["identity"], content["report"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"cannot read {path}: {error}; delete {folder} to start anew") from error
    changed = [name for name, value in identity.items() if stored.get(name) != value]
    if changed:
        raise StoreError(
            f"{folder} holds a fit with another {', '.join(changed)}: give another --output, or delete the folder"
        )
    if report is None:
        return None
    pairs = {name: tuple(report[name]) for name in ("losses", "agreement")}
    return FitReport(**{**report, **pairs, "folder": folder, "was_done": True})


def _write(opened: OpenNetwork, report: FitReport, folder: Path, identity: dict[str, str]) -> None:
    """Write the network, then the report, which marks the fit as complete, and delete the checkpoint."""
    facts = {key: value for key, value in asdict(report).items() if key not in ("folder", "was_done", "unreadable")}
    extra = {**describe(opened), "fit": facts}
    opened.lap.save_pretrained(folder, classes=list(opened.classes) or None, extra=extra)
    stored = {**facts, "unreadable": report.unreadable}
    content = {"identity": identity, "report": stored, "provenance": provenance(command="interp-bench fit")}
    write_atomically(folder / FACTS, json.dumps(content, indent=1) + "\n")
    with suppress(OSError):
        (folder / CHECKPOINT).unlink(missing_ok=True)
