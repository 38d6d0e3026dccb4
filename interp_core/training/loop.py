"""A training under way: its steps, its epochs, and all that a checkpoint must hold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interp_core.errors import ContractError
from interp_core.knowledge import Term
from interp_core.training.callbacks import Epoch, Watcher
from interp_core.training.checkpoint import Checkpoint, random_states, set_random_states
from interp_core.training.data import Batch, Source, TrainingSet
from interp_core.training.devices import agreement, same_buffers, total
from interp_core.training.early_stopping import Patience
from interp_core.training.evaluate import at_once, judged, losses_on
from interp_core.training.losses import Step
from interp_core.training.modes import bare, flat_logits, parameter_groups, to_training
from interp_core.training.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

Validation = tuple[Tensor | Source, Tensor]
TERM_SEED = 1_000_003  # keeps what terms draw apart from the order of images


class Run:
    """A training under way.

    Args:
        model: to be trained, on its device.
        data: what it is trained on.
        recipe: how.
        terms: knowledge.
        accelerator: processes and precision.
        names: of the K classes.

    Attributes:
        history: the epochs that are done.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingSet,
        recipe: Recipe,
        terms: Sequence[Term],
        accelerator: Accelerator,
        names: Sequence[str] = (),
    ) -> None:
        self.model, self.data, self.recipe, self.accelerator = model, data, recipe, accelerator
        self.terms, self.names = tuple(terms), tuple(names)
        self.device = next(model.parameters()).device
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.draws = torch.Generator().manual_seed(recipe.seed + TERM_SEED * (1 + data.rank))
        optimizer = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=recipe.epochs * data.steps,
            pct_start=recipe.warm_up,
        )
        self.losses = Step(model, terms, self.draws, names, recipe.answers)
        self.step = accelerator.prepare(self.losses)
        self.optimizer = accelerator.prepare(optimizer)
        self.patience = Patience(recipe)
        self.history: list[Epoch] = []
        self.epoch, self.done, self.made = 1, 0, 0
        self.sums: dict[str, Tensor] = {}
        self.order_state = self.generator.get_state()
        self.before, self.begin, self.first = 0.0, time.perf_counter(), 0

    def go(
        self, validation: Validation | None, watchers: Watcher, checkpoint: Checkpoint | None, save_every: int | None
    ) -> None:
        """Train to the end, from where the checkpoint is."""
        state = checkpoint and checkpoint.read()
        if state:
            self.load_state_dict(state)
        if any(term.passes for term in self.terms):
            self.losses.look_with(flat_logits(self.model, self._image(), self.recipe.precision))
        self.first, self.begin = self.steps_done, time.perf_counter()
        watchers.begin(self.recipe.epochs * self.data.steps, self.steps_done)
        while self.epoch <= self.recipe.epochs and not self.patience.over:
            self._steps(watchers, checkpoint, save_every)
            self._end_epoch(validation)
            watchers(self.history[-1])
            self._save(checkpoint)
        self.patience.restore(bare(self.model))

    def _image(self) -> Tensor:
        return torch.zeros(1, *self.data.images.shape[1:], device=self.device)

    @property
    def steps_done(self) -> int:
        """Of all epochs."""
        return (self.epoch - 1) * self.data.steps + self.done

    @property
    def seconds(self) -> float:
        """Spent so far, before a stop included."""
        return self.before + time.perf_counter() - self.begin

    def _steps(self, watchers: Watcher, checkpoint: Checkpoint | None, save_every: int | None) -> None:
        """What is left of the epoch's steps."""
        to_training(self.model, self.recipe)
        order = self._order()
        for batch in self.data.epoch(order, self.done, self.generator, lambda yes: agreement(self.accelerator, yes)):
            if batch is not None:
                self._step(batch)
                self.made += 1
            self.done += 1
            watchers.step(self.steps_done)
            if save_every and self.done % save_every == 0 and self.done < self.data.steps:
                self._save(checkpoint)

    def _order(self) -> Tensor:
        """The order of the images in this epoch; the generator then stands where the next step draws."""
        now = self.generator.get_state()
        if self.done == 0:
            self.order_state = now
        self.generator.set_state(self.order_state)
        order = torch.randperm(len(self.data.images), generator=self.generator)
        if self.done:
            self.generator.set_state(now)
        return order

    def _step(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        parts = batch.parts(self.recipe.accumulate)
        for number, part in enumerate(parts, 1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.step):
                self._backward(part)
        if self.recipe.clip is not None:
            self.accelerator.clip_grad_norm_((p for p in self.model.parameters() if p.requires_grad), self.recipe.clip)
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:
            self.schedule.step()

    def _backward(self, part: Batch) -> None:
        """Add the part's gradient: each part counts by its images, and processes are averaged."""
        regions = {name: masks.to(self.device) for name, masks in part.regions.items()}
        losses = self.step(part.images.to(self.device, non_blocking=True), part.targets.to(self.device), regions)
        weight, loss = part.share * self.accelerator.num_processes, torch.stack(list(losses.values())).sum()
        self.accelerator.backward(loss if weight == 1 else weight * loss)
        for name, value in losses.items():
            before = self.sums.get(name, torch.zeros((), device=self.device))
            self.sums[name] = before + part.share * value.detach()

    def _end_epoch(self, validation: Validation | None) -> None:
        if not self.sums:
            raise ContractError("none of the training images can be read")
        sums = total(self.accelerator, torch.stack(list(self.sums.values()))).tolist()
        means = {name: value / self.made for name, value in zip(self.sums, sums, strict=True)}
        same_buffers(self.accelerator, self.model)
        accuracy = None if validation is None else self._accuracy(*validation)
        loss = self._loss(*validation) if validation is not None and self.patience.wants_loss else None
        rate, self.done = float(self.schedule.get_last_lr()[0]), self.data.steps
        pace = (time.perf_counter() - self.begin) / (self.steps_done - self.first)
        left = pace * (self.recipe.epochs - self.epoch) * self.data.steps
        epoch = Epoch(self.epoch, sum(means.values()), means, accuracy, self.seconds, loss, left, rate)
        self.history.append(epoch)
        self.patience.look(epoch, bare(self.model))
        self.epoch, self.done, self.made, self.sums = self.epoch + 1, 0, 0, {}

    def _accuracy(self, images: Tensor | Source, targets: Tensor) -> float:
        """`evaluate`, each process judging its share."""
        found = judged(self.model, images, targets, self._share(images))
        if self.accelerator.num_processes == 1:
            return found.mean().item() if len(found) else float("nan")
        right, count = total(self.accelerator, torch.tensor([found.sum(), len(found)])).tolist()
        return right / count if count else float("nan")

    def _loss(self, images: Tensor | Source, targets: Tensor) -> float:
        found = losses_on(self.model, images, targets, self.terms, self._share(images), self.data.regions, self.names)
        loss, count = total(self.accelerator, torch.tensor(found, dtype=torch.float64)).tolist()
        return loss / count if count else float("nan")

    def _share(self, images: Tensor | Source) -> Sequence[Tensor]:
        """Of validation images, what this process judges."""
        return torch.arange(len(images)).split(at_once(images.shape))[self.data.rank :: self.data.world]

    def _save(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            state = self.state_dict()
            if self.accelerator.is_main_process:
                checkpoint.write(state)

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain values; all processes must call this together."""
        from accelerate.utils import gather_object

        own = {"random": random_states(self.device), "draws": self.draws.get_state()}
        scaler = self.accelerator.scaler
        return {
            "model": bare(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "patience": self.patience.state_dict(),
            "processes": gather_object([own]),
            "generator": self.generator.get_state(),
            "order": self.order_state,
            "counts": {"epoch": self.epoch, "done": self.done, "made": self.made},
            "sums": self.sums,
            "history": [asdict(epoch) for epoch in self.history],
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        bare(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.patience.load_state_dict(state["patience"])
        own = state["processes"][self.data.rank]
        set_random_states(own["random"], self.device)
        self.draws.set_state(own["draws"])
        self.generator.set_state(state["generator"])
        self.order_state = state["order"]
        self.epoch, self.done, self.made = (state["counts"][name] for name in ("epoch", "done", "made"))
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.before = state["seconds"]
