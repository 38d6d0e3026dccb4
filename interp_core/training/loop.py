"""The training loop: its steps, its epochs, and the state that a checkpoint stores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interp_core.backbone.trace import evaluating
from interp_core.errors import ContractError
from interp_core.knowledge import Term
from interp_core.lap.wrappers import unwrap
from interp_core.training.callbacks import Callback, Epoch
from interp_core.training.checkpoint import Checkpoint, check_form, get_random_states, set_random_states
from interp_core.training.data import Batch, Source, TrainingSet
from interp_core.training.devices import all_agree, broadcast_buffers, sum_over_processes
from interp_core.training.divergence import LossGuard, check_weights
from interp_core.training.early_stopping import EarlyStopping
from interp_core.training.evaluate import correctness, eval_batch_size, sum_losses
from interp_core.training.losses import StepLosses
from interp_core.training.modes import make_fast_logits, parameter_groups, set_training_mode
from interp_core.training.parts import (
    choose_part,
    default_budget,
    has_independent_rows,
    measure_pass,
    seconds_per_image,
)
from interp_core.training.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

Validation = tuple[Tensor | Source, Tensor]
ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
TERM_SEED = 1_000_003  # offset of the seed, so that terms draw independently of the order of images


class TrainingLoop:
    """Training of one model, from its first step or from a checkpoint to the last epoch.

    Args:
        model: the model to train, on its device.
        data: training data.
        recipe: settings of the training.
        terms: knowledge terms.
        accelerator: processes and precision.
        names: names of the K classes.
        memory: for the graphs of the terms' further passes, in GiB; None for `default_budget`.

    Attributes:
        history: results of the completed epochs.
    """

    def __init__(
        self,
        model: nn.Module,
        data: TrainingSet,
        recipe: Recipe,
        terms: Sequence[Term],
        accelerator: Accelerator,
        names: Sequence[str] = (),
        memory: float | None = None,
    ) -> None:
        self.memory = memory
        self.model, self.data, self.recipe, self.accelerator = model, data, recipe, accelerator
        self.terms, self.names = tuple(terms), tuple(names)
        self.device = next(model.parameters()).device
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.term_generator = torch.Generator().manual_seed(recipe.seed + TERM_SEED * (1 + data.rank))
        optimizer = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=recipe.epochs * data.steps,
            pct_start=recipe.warm_up,
        )
        self.losses = StepLosses(model, terms, self.term_generator, names, recipe.answers)
        self.prepared_losses = accelerator.prepare(self.losses)
        self.optimizer = accelerator.prepare(optimizer)
        self.early_stopping, self.guard = EarlyStopping(recipe), LossGuard(recipe.learning_rate)
        self.history: list[Epoch] = []
        # Of the current epoch: its number, steps passed, and steps computed (others had too few readable images).
        self.epoch, self.passed, self.computed = 1, 0, 0
        self.sums: dict[str, Tensor] = {}
        self.order_state = self.generator.get_state()
        self.earlier_seconds, self.start, self.first_step = 0.0, time.perf_counter(), 0

    def run(
        self, validation: Validation | None, callbacks: Callback, checkpoint: Checkpoint | None, save_every: int | None
    ) -> None:
        """Train to the last epoch, from the checkpoint if there is one."""
        state = checkpoint.read() if checkpoint else None
        if checkpoint is not None and state is not None:
            with checkpoint.restoring():
                self.load_state_dict(state)
        pace = self._prepare_passes() if any(term.passes for term in self.terms) else None
        self.first_step, self.start = self.total_passed, time.perf_counter()
        total = self.recipe.epochs * self.data.steps
        callbacks.begin(total, self.total_passed)
        if pace is not None:
            callbacks.estimate(pace * (total - self.total_passed))
        while self.epoch <= self.recipe.epochs and not self.early_stopping.should_stop:
            self._run_steps(callbacks, checkpoint, save_every)
            self._end_epoch(validation)
            callbacks(self.history[-1])
            self._save(checkpoint)
        self.early_stopping.restore(unwrap(self.model))
        check_weights(unwrap(self.model))

    def _prepare_passes(self) -> float | None:
        """Choose how terms pass further images; return the seconds that a step will take, where that is measured."""
        shape, size = self.data.images.shape[1:], -(-self.recipe.batch_size // self.data.world)
        image = torch.zeros(1, *shape, device=self.device)
        fast_logits = make_fast_logits(self.model, image, self.recipe.precision)
        self.losses.use_fast_logits(fast_logits)
        if not has_independent_rows(self.model, self.recipe):
            return None
        with evaluating(self.model):
            cost = measure_pass(fast_logits or self.model, shape, self.device)
        budget = default_budget(self.device) if self.memory is None else self.memory
        self.losses.use_parts(choose_part(cost, -(-size // self.recipe.accumulate), self.terms, budget))
        return size * seconds_per_image(cost, self.terms)

    @property
    def total_passed(self) -> int:
        """Number of steps passed in all epochs."""
        return (self.epoch - 1) * self.data.steps + self.passed

    @property
    def seconds(self) -> float:
        """Training time so far, including the time before an interruption."""
        return self.earlier_seconds + time.perf_counter() - self.start

    def _run_steps(self, callbacks: Callback, checkpoint: Checkpoint | None, save_every: int | None) -> None:
        """Run the remaining steps of the epoch."""
        set_training_mode(self.model, self.recipe)
        order = self._draw_order()
        for batch in self.data.epoch(
            order, self.passed, self.generator, lambda condition: all_agree(self.accelerator, condition)
        ):
            if batch is not None:
                self._step(batch)
                self.computed += 1
            self.passed += 1
            callbacks.step(self.total_passed)
            if save_every and self.passed % save_every == 0 and self.passed < self.data.steps:
                self._save(checkpoint)

    def _draw_order(self) -> Tensor:
        """Draw the order of the images in this epoch, and leave the generator where the next step draws."""
        state = self.generator.get_state()
        if self.passed == 0:
            self.order_state = state
        self.generator.set_state(self.order_state)
        order = torch.randperm(len(self.data.images), generator=self.generator)
        if self.passed:
            self.generator.set_state(state)
        return order

    def _step(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        microbatches = batch.split(self.recipe.accumulate)
        for number, microbatch in enumerate(microbatches, 1):
            is_last = number == len(microbatches)
            with nullcontext() if is_last else self.accelerator.no_sync(self.prepared_losses):
                self._backward(microbatch)
        if self.recipe.clip is not None:
            self.accelerator.clip_grad_norm_((p for p in self.model.parameters() if p.requires_grad), self.recipe.clip)
        self.optimizer.step()
        if not self.optimizer.step_was_skipped:
            self.schedule.step()

    def _backward(self, batch: Batch) -> None:
        """Add the gradient of a batch, weighted by its number of images; processes are averaged."""
        regions = {name: masks.to(self.device) for name, masks in batch.regions.items()}
        images, targets = batch.images.to(self.device, non_blocking=True), batch.targets.to(self.device)
        losses = self.prepared_losses(images, targets, regions)
        self.guard.add(self.total_passed + 1, losses, batch.images, batch.indices)
        weight, loss = batch.share * self.accelerator.num_processes, torch.stack(list(losses.values())).sum()
        self.accelerator.backward(loss if weight == 1 else weight * loss)
        for name, value in losses.items():
            before = self.sums.get(name, torch.zeros((), device=self.device))
            self.sums[name] = before + batch.share * value.detach()

    def _end_epoch(self, validation: Validation | None) -> None:
        if not self.sums:
            raise ContractError("none of the training images can be read")
        self.guard.check()
        sums = sum_over_processes(self.accelerator, torch.stack(list(self.sums.values()))).tolist()
        means = {name: value / self.computed for name, value in zip(self.sums, sums, strict=True)}
        broadcast_buffers(self.accelerator, self.model)
        accuracy = None if validation is None else self._accuracy(*validation)
        loss = self._loss(*validation) if validation is not None and self.early_stopping.needs_loss else None
        rate, self.passed = float(self.schedule.get_last_lr()[0]), self.data.steps
        pace = (time.perf_counter() - self.start) / (self.total_passed - self.first_step)
        remaining = pace * (self.recipe.epochs - self.epoch) * self.data.steps
        epoch = Epoch(self.epoch, sum(means.values()), means, accuracy, self.seconds, loss, remaining, rate)
        self.history.append(epoch)
        self.early_stopping.update(epoch, unwrap(self.model))
        self.epoch, self.passed, self.computed, self.sums = self.epoch + 1, 0, 0, {}

    def _accuracy(self, images: Tensor | Source, targets: Tensor) -> float:
        """Compute the accuracy as `evaluate` does, each process on its share."""
        scores = correctness(self.model, images, targets, self._validation_batches(images))
        if self.accelerator.num_processes == 1:
            return scores.mean().item() if len(scores) else float("nan")
        correct, count = sum_over_processes(self.accelerator, torch.tensor([scores.sum(), len(scores)])).tolist()
        return float(correct / count) if count else float("nan")

    def _loss(self, images: Tensor | Source, targets: Tensor) -> float:
        batches = self._validation_batches(images)
        sums = sum_losses(self.model, images, targets, self.terms, batches, self.data.regions, self.names)
        loss, count = sum_over_processes(self.accelerator, torch.tensor(sums, dtype=torch.float64)).tolist()
        return float(loss / count) if count else float("nan")

    def _validation_batches(self, images: Tensor | Source) -> Sequence[Tensor]:
        """Return the indices of the validation images that this process evaluates, in batches."""
        batches = torch.split(torch.arange(len(images)), eval_batch_size(images.shape))
        return batches[self.data.rank :: self.data.world]

    def _save(self, checkpoint: Checkpoint | None) -> None:
        self.guard.check()
        if checkpoint is not None:
            state = self.state_dict()
            if self.accelerator.is_main_process:
                checkpoint.write(state)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, as tensors and plain values; all processes must call this together."""
        from accelerate.utils import gather_object

        process = {"random": get_random_states(self.device), "draws": self.term_generator.get_state()}
        scaler = self.accelerator.scaler
        return {
            "model": unwrap(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "patience": self.early_stopping.state_dict(),
            "processes": gather_object([process]),
            "generator": self.generator.get_state(),
            "order": self.order_state,
            "counts": {"epoch": self.epoch, "done": self.passed, "made": self.computed},
            "sums": self.sums,
            "history": [asdict(epoch) for epoch in self.history],
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state, to continue from there."""
        check_form(state["schedule"], self.schedule.state_dict(), "schedule")
        unwrap(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._check_moments()
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.early_stopping.load_state_dict(state["patience"])
        process = state["processes"][self.data.rank]
        set_random_states(process["random"], self.device)
        self.term_generator.set_state(process["draws"])
        self.generator.set_state(state["order"])  # checks it
        self.order_state = state["order"]
        self.generator.set_state(state["generator"])
        check_form(state["counts"], {"epoch": 1, "done": 0, "made": 0}, "counts")
        self.epoch, self.passed, self.computed = (state["counts"][name] for name in ("epoch", "done", "made"))
        if self.epoch < 1 or not 0 <= self.computed <= self.passed <= self.data.steps:
            raise ValueError(f"it says step {self.passed} of epoch {self.epoch}")
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.earlier_seconds = float(state["seconds"])

    def _check_moments(self) -> None:
        """Check that the optimizer has both moments of each of its weights, in the weight's shape."""
        for weight, moments in self.optimizer.state.items():
            if any(moments[name].shape != weight.shape for name in ADAM_MOMENTS) or moments["step"].ndim:
                raise ValueError("the optimizer is of other weights")
