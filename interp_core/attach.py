"""Put LAP into a convolutional network, and give back the untouched original.

    lap = interp_core.attach(model)        # same logits as before
    lap(images)                            # (N, K) logits
    lap.explain(images, targets).map       # (N, 1, H, W), from one forward pass
    model = interp_core.detach(lap)        # the original module

Gates below the head are forward hooks on the backbone's own modules, so that no module is replaced, no state-dict key
moves and `detach` has only to remove them. The head's pooling becomes LAP by gating its input: average pooling of |W|
A X is sum A X.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from interp_core.backbone import BackboneInfo, Site, evaluating, inspect_backbone
from interp_core.errors import BackboneError, ContractError
from interp_core.explanation import (
    Explanation,
    evidence_map,
    first_order_contributions,
    head_contributions,
    level_maps,
)
from interp_core.geometry import resize
from interp_core.pooling import GateBlock, HeadBlock, Recording, recording


class _GateOutput:
    """Forward hook; an object, not a closure, so that a deep copy of the model copies the block it holds."""

    def __init__(self, block: GateBlock) -> None:
        self.block = block

    def __call__(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        return self.block(output)


class _GateInput(_GateOutput):
    def __call__(self, _module: nn.Module, inputs: tuple) -> tuple:  # type: ignore[override]
        return self.block(inputs[0]), *inputs[1:]


class LapModel(nn.Module):
    """A backbone with LAP attached; made by `attach`, not by hand.

    Attributes:
        backbone: the network given, unchanged but for hooks.
        gates: blocks below the head, finest first.
        head: block at the global pooling.
        info: what the probe found in the backbone.
        options: arguments of `attach` that shaped the blocks, for saving.
        recipe: name and arguments of the timm backbone, if it was made by `create`.
    """

    def __init__(self, backbone: nn.Module, info: BackboneInfo, options: dict[str, Any]) -> None:
        super().__init__()
        self.backbone, self.info, self.options = backbone, info, options
        self.recipe: dict[str, Any] | None = None
        self.sites = tuple(site for site in info.sites if site.reduction >= options["finest"])
        self.gates = nn.ModuleList(
            GateBlock(site.module, site.channels, site.window, hidden=options["gate_hidden"]) for site in self.sites
        )
        self.head = HeadBlock(
            info.channels,
            info.classes,
            evidence=info.linear_head,
            hidden=options["hidden"],
            candidates=options["candidates"],
        )
        self._handles = [
            _hook(backbone, site, block)  # type: ignore[arg-type]
            for site, block in zip(self.sites, self.gates, strict=True)
        ]
        self.attached = True

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W)."""
        self._check_attached()
        features = self.backbone.forward_features(images)  # type: ignore[operator]
        classifier = self._classifier()
        if classifier is None:
            return self.backbone.forward_head(self.head(features))  # type: ignore[operator]
        gated = self.head(features, classifier.weight, classifier.bias)
        return self.backbone.forward_head(gated)  # type: ignore[operator]

    def explain(self, images: Tensor, targets: Tensor | int | None = None) -> Explanation:
        """Explain the logits of `targets` from one forward pass, made in evaluation mode.

        Args:
            images: (N, C, H, W) floating point, N >= 1, normalised as for `forward`.
            targets: (N,) class indices, one class for all, or None for the predicted classes.

        Raises:
            ContractError: images or targets the model cannot take.
        """
        self._check_images(images)
        mode = evaluating(self) if self.training else nullcontext()  # going through all modules takes time
        with mode, torch.no_grad(), recording() as record:
            logits = self(images)
            chosen = self._check_targets(targets, logits)
            concept, head = self._head_maps(record, chosen)
            levels = level_maps(record, self.sites, concept, head)
            bias = logits.gather(1, chosen[:, None])[:, 0] - head.sum((1, 2, 3))
        height, width = images.shape[-2:]
        shown = resize(evidence_map(levels[-1]), height, width, self.info.first, self.info.reduction)
        return Explanation(shown, chosen, logits, bias, levels)

    def _head_maps(self, record: Recording, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The targets' concept map and contributions on the head's grid, both (N, 1, h, w)."""
        assert record.features is not None
        assert record.head_gate is not None
        classifier = self._classifier()
        weight = None if classifier is None else classifier.weight
        concept, evidence = self.head.target_maps(record, weight, targets)
        if evidence is not None:
            return concept, head_contributions(evidence, record.head_gate)
        gated = record.features * record.head_gate
        return concept, first_order_contributions(gated, targets, self.backbone.forward_head)  # type: ignore[arg-type]

    def _classifier(self) -> nn.Linear | None:
        """The last layer where the head is linear."""
        return self.backbone.get_classifier() if self.info.linear_head else None  # type: ignore[operator]

    def _check_images(self, images: Tensor) -> None:
        wanted = f"explain takes floating point images (N, {self.info.in_channels}, H, W)"
        if not isinstance(images, Tensor):
            raise ContractError(f"{wanted}, got {type(images).__name__}")
        if images.ndim != 4 or images.shape[1] != self.info.in_channels or 0 in images.shape:
            raise ContractError(f"{wanted}, got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ContractError(f"{wanted}, got {images.dtype}: normalise the images first")

    def _check_targets(self, targets: Tensor | int | None, logits: Tensor) -> Tensor:
        if targets is None:
            return logits.argmax(1)
        try:
            chosen = torch.as_tensor(targets, device=logits.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ContractError(f"targets must be class indices, got {targets!r}") from error
        if (
            chosen.is_floating_point()
            or chosen.is_complex()
            or chosen.ndim > 1
            or (chosen.ndim == 1 and len(chosen) != len(logits))
        ):
            raise ContractError(
                f"targets must be {len(logits)} class indices or one for all, got {tuple(chosen.shape)}"
            )
        if bool(((chosen < 0) | (chosen >= self.info.classes)).any()):
            raise ContractError(f"targets must lie in 0..{self.info.classes - 1}, got {chosen.tolist()}")
        return chosen.expand(len(logits)).long()

    def _check_attached(self) -> None:
        if not self.attached:
            raise BackboneError("this LAP model was detached: attach its backbone again")

    def __enter__(self) -> LapModel:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _tb: TracebackType | None
    ) -> Literal[False]:
        if self.attached:
            detach(self)
        return False


def _hook(backbone: nn.Module, site: Site, block: GateBlock) -> torch.utils.hooks.RemovableHandle:
    module = backbone.get_submodule(site.module)
    if site.before:
        return module.register_forward_pre_hook(_GateInput(block))
    return module.register_forward_hook(_GateOutput(block))


def attach(
    model: nn.Module, *, finest: int = 4, hidden: int = 32, gate_hidden: int = 8, candidates: int = 10
) -> LapModel:
    """Attach LAP to a convolutional network; logits stay as they are until training moves `a` away from 0.

    Args:
        model: a network that keeps timm's protocol, trained or not, on any device.
        finest: gate levels of at least this many input pixels per position, besides the global pooling. A gate at half
            the input resolution costs as much as all others together and sees little more than edges.
        hidden: width of the head's scorer.
        gate_hidden: width of the scorers below the head.
        candidates: most classes that share the head's attention.

    Raises:
        BackboneError: not convolutional, the protocol is missing, or LAP is attached already.
    """
    if isinstance(model, nn.Module) and _is_gated(model):
        raise BackboneError("LAP is attached to this model already: use it, or detach it first")
    info = inspect_backbone(model)
    options = {"finest": finest, "hidden": hidden, "gate_hidden": gate_hidden, "candidates": candidates}
    lap = LapModel(model, info, options)
    parameter = next(model.parameters())
    lap.gates.to(parameter.device, parameter.dtype)
    lap.head.to(parameter.device, parameter.dtype)
    lap.training = model.training
    lap.gates.train(model.training)
    lap.head.train(model.training)
    return lap


def detach(lap: LapModel) -> nn.Module:
    """The original network, as it was before `attach` but for what training changed in its weights.

    Raises:
        BackboneError: it was detached before.
    """
    lap._check_attached()
    for handle in lap._handles:
        handle.remove()
    lap.attached = False
    return lap.backbone


def create(name: str, **kwargs: Any) -> LapModel:
    """`attach(timm.create_model(name, **kwargs))`, remembering both so that a saved model can rebuild itself.

    Raises:
        UnknownNameError: timm has no such model.
    """
    lap = attach(create_backbone(name, **kwargs))
    lap.recipe = {"name": name, "kwargs": kwargs}
    return lap


def create_backbone(name: str, **kwargs: Any) -> nn.Module:
    """`timm.create_model` with an error that lists close names."""
    import timm

    from interp_core.errors import UnknownNameError

    if not timm.is_model(name):
        raise UnknownNameError("backbone", name, timm.list_models())
    return timm.create_model(name, **kwargs)


def _is_gated(model: nn.Module) -> bool:
    if any(isinstance(module, GateBlock | HeadBlock) for module in model.modules()):
        return True
    hooks = (
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    )
    return any(isinstance(hook, _GateOutput) for hook in hooks)
