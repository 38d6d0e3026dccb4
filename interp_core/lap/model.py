"""A network with LAP attached.

Gates below the head are forward hooks on the backbone's own modules, so that no module is replaced, no state-dict key
moves and `detach` has only to remove them; outside a pass of the LAP model they do nothing. The head's pooling becomes
LAP by gating its input: average pooling of |W| A X is sum A X.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from math import ceil
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from interp_core.backbone.geometry import resize
from interp_core.backbone.inspect import BackboneInfo, Site, classifier_weights, inspect_backbone
from interp_core.backbone.timm_models import WITHOUT_WEIGHTS, BackboneSpec, create_backbone
from interp_core.backbone.trace import evaluating
from interp_core.errors import BackboneError
from interp_core.lap.blocks import GateBlock, HeadBlock
from interp_core.lap.explanation import Explanation, Level, evidence_map, first_order, head_contributions, head_maps
from interp_core.lap.hub import HubMixin
from interp_core.lap.input_checks import check_images, check_logits, check_targets
from interp_core.lap.options import LapOptions, check_concepts, concept_names, concepts_as_lists
from interp_core.lap.recording import Recording, recording, wanted_recording
from interp_core.lap.refine import Refiner, detail, levels_to_refine, refined_map

# Defaults of `finest`: a gate at half the input resolution costs as much as all others together and sees little more
# than edges, and so does one of 56 x 56 cells in a network made for phones.
FINEST, MAX_CELLS = 4, 40

# Which LAP model's pass this thread is making. Gates are looked up here and not held by the hooks, so that replicas of
# a model use their own and the backbone alone stays what it was.
_pass = threading.local()


class _Hook:
    """Forward hook of one site; does nothing but in a pass of the LAP model."""

    def __init__(self, index: int) -> None:
        self.index = index

    def gated(self, features: Tensor) -> Tensor | None:
        lap: LapModel | None = getattr(_pass, "lap", None)
        if lap is None:
            return None
        _pass.gated += 1
        return lap.sites[self.index].layout.apply(lap.gates[self.index], features)


class _GateOutput(_Hook):
    def __call__(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor | None:
        return self.gated(output)


class _GateInput(_Hook):
    def __call__(self, _module: nn.Module, inputs: tuple) -> tuple | None:
        gated = self.gated(inputs[0])
        return None if gated is None else (gated, *inputs[1:])


class _Tap:
    """Hook of one level that a refined map reads: notes its features, as they come to the gate there."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, _module: nn.Module, inputs: tuple, output: Tensor | None = None) -> None:
        lap: LapModel | None = getattr(_pass, "lap", None)
        record = wanted_recording()
        if lap is not None and record is not None:
            site = lap.tapped[self.index]
            record.taps[site.module] = site.layout.to_map(inputs[0] if output is None else output)


class LapModel(HubMixin, nn.Module):
    """A backbone with LAP attached; made by `attach`, not by hand.

    Attributes:
        backbone: the network given, unchanged; called itself, it is the plain network still.
        gates: blocks below the head, finest first.
        head: block at the global pooling.
        refiner: takes the head's evidence down to a finer grid, where it was asked for; see `interp_core.lap.refine`.
        info: what the probe found in the backbone.
        options: arguments of `attach` that shaped the blocks, for saving.
        backbone_spec: name and arguments of the timm backbone, if it was made by `create`.
    """

    @classmethod
    def from_backbone(cls, backbone: nn.Module, options: LapOptions) -> Self:
        """Attach LAP to a backbone, as `interp_core.attach` does.

        Args:
            backbone: a convolutional network.
            options: of the blocks.

        Raises:
            BackboneError: the network is not convolutional, its head is not understood, or LAP is attached already.
            ContractError: concepts for levels that do not exist, or names that are not different.
        """
        if isinstance(backbone, nn.Module) and is_gated(backbone):
            raise BackboneError("LAP is attached to this model already: use it, or detach it first")
        info = inspect_backbone(backbone, options.image_size)
        finest = options.finest if options.finest is not None else _default_finest(backbone, info, options)
        check_concepts(options.concepts, _gated_sites(info, finest))
        lap = cls(backbone, info, replace(options, finest=finest, concepts=concepts_as_lists(options.concepts)))
        parameter = next(p for p in backbone.parameters() if p.is_floating_point())
        lap.training = backbone.training
        for block in (lap.gates, lap.head, lap.refiner):
            if block is not None:
                block.to(parameter.device, parameter.dtype).train(backbone.training)
        return lap

    @classmethod
    def _rebuild(cls, description: dict[str, Any], backbone: nn.Module | None) -> Self:
        spec = description.get("recipe")
        if backbone is None:
            backbone = create_backbone(spec["name"], **spec["kwargs"] | WITHOUT_WEIGHTS)
        lap = cls.from_backbone(backbone, LapOptions(**description["options"]))
        lap.backbone_spec = spec
        return lap

    def __init__(self, backbone: nn.Module, info: BackboneInfo, options: LapOptions) -> None:
        super().__init__()
        self.backbone, self.info, self.options = backbone, info, options
        self.backbone_spec: BackboneSpec | None = None
        self.sites = _gated_sites(info, options.finest)
        self.gates = nn.ModuleList(
            GateBlock(
                site.module,
                site.channels,
                site.window,
                concepts=names,
                hidden=options.gate_hidden,
                aggregate=options.aggregate,
                weighting=options.weighting,
            )
            for site, names in zip(self.sites, concept_names(options.concepts, self.sites), strict=True)
        )
        self.head = _head_block(info, options)
        self.tapped = levels_to_refine(info, options.refine) if options.refine else ()
        self.refiner = Refiner(info.channels, [s.channels for s in self.tapped]) if options.refine else None
        # Taps first, so that they see what comes to a gate at the same module.
        self._handles = [_tap(backbone, site, index) for index, site in enumerate(self.tapped)]
        self._handles += [_register(backbone, site, index) for index, site in enumerate(self.sites)]
        self.attached = True

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W)."""
        features, numbers = self._features(images)
        gated = self._gated_head(features, images.shape[-2] / images.shape[-1])

        def head(maps: Tensor) -> Tensor:
            return split.head(self.backbone, split.layout.from_map(maps, features), numbers)

        split, record = self.info.split, wanted_recording()
        if record is None or record.choose is None:
            return head(gated)
        if not self.info.linear_head:
            logits, record.targets, record.contributions = first_order(gated, head, record.choose)
            return logits
        logits = head(gated)
        record.targets = record.choose(logits)
        return logits

    def forward_features(self, images: Tensor) -> Tensor:
        """The last features, as the backbone lays them out, gated below the head; timm's protocol."""
        return self._features(images)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of what `forward_features` gave, or what the last layer would be given; timm's protocol."""
        gated = self.info.split.layout.from_map(self._gated_head(features), features)
        if pre_logits:
            return self.backbone.forward_head(gated, pre_logits=True)  # type: ignore[operator]
        return self.info.split.head(self.backbone, gated, ())

    def explain(self, images: Tensor, targets: Tensor | int | None = None) -> Explanation:
        """Explain the logits of `targets` from one forward pass, made in evaluation mode.

        Args:
            images: (N, C, H, W) floating point, N >= 1, normalised as for `forward`.
            targets: (N,) class indices, one class for all, or None for the predicted classes.

        Raises:
            ContractError: images or targets the model cannot take.
        """
        self._check_attached()
        check_images(images, self.info.in_channels, self.info.reduction, self.head.a.device)

        def choose(logits: Tensor) -> Tensor:
            check_logits(logits, images)
            return check_targets(targets, logits)

        mode = evaluating(self) if self.training else nullcontext()  # going through all modules takes time
        with mode, torch.no_grad():
            with recording(choose=choose) as record:
                logits = self(images)
            return self._explanation(images, logits, record)

    def _explanation(self, images: Tensor, logits: Tensor, record: Recording) -> Explanation:
        assert record.targets is not None
        assert record.head_gate is not None
        weight, constant = self._classifier()
        concept, evidence = self.head.target_maps(record, weight, record.targets)
        if evidence is not None:
            contributions = head_contributions(evidence, record.head_gate)
            bias = logits.new_zeros(logits.shape[0]) if constant is None else constant[record.targets].to(logits.dtype)
        else:
            assert record.contributions is not None
            contributions = record.contributions
            bias = logits.gather(1, record.targets[:, None])[:, 0] - contributions.sum((1, 2, 3))
        top = head_maps(concept, record.head_gate, contributions)
        if self.refiner is not None:
            native = refined_map(self.refined(record, record.targets, contributions, concept))
            first, pitch = self.refined_grid
        else:
            native, first, pitch = evidence_map(top), self.info.first, self.info.reduction
        shown = resize(native, images.shape[-2], images.shape[-1], first, pitch)
        if self.refiner is not None:
            shown = shown * detail(images)
        below = tuple(
            Level(site, block.concepts, record.gates[site.module])  # type: ignore[arg-type]
            for site, block in zip(self.sites, self.gates, strict=True)
        )
        return Explanation(shown, native, record.targets, logits, bias, top, below, images)

    def refined(self, record: Recording, targets: Tensor, contributions: Tensor, concept: Tensor) -> Tensor:
        """What the refiner says of one class an image: region scores and effects, (N, 2, h, w).

        Args:
            record: of a forward pass.
            targets: (N,) class indices.
            contributions: of these classes at the head, (N, 1, h, w).
            concept: concept maps of these classes, (N, 1, h, w).
        """
        assert self.refiner is not None
        assert record.features is not None
        assert record.head_gate is not None
        weight, _ = self._classifier()
        parts = None if weight is None else record.features * (weight[targets][..., None, None] * record.head_gate)
        below = [record.taps[site.module].to(record.features.dtype) for site in self.tapped]
        return self.refiner(parts, record.features, contributions, concept, below)

    @property
    def refined_grid(self) -> tuple[float, float]:
        """Pixel on which the first cell of the refined map is centred, and pixels from cell to cell."""
        if not self.tapped:
            return self.info.first, self.info.reduction
        # Cells of levels below the head are taken to tile the image; training has placed them with the same grid.
        pitch = self.tapped[0].reduction
        return (pitch - 1) / 2, pitch

    def _features(self, images: Tensor) -> tuple[Tensor, tuple]:
        """The backbone's last features with the gates at work, and the numbers its head needs."""
        self._check_attached()
        outer = getattr(_pass, "lap", None), getattr(_pass, "gated", 0)
        _pass.lap, _pass.gated = self, 0
        try:
            found = self.info.split.features(self.backbone, images)
            if _pass.gated != len(self.sites):
                raise BackboneError(
                    f"{type(self.backbone).__name__} called {_pass.gated} of the {len(self.sites)} modules LAP gates: "
                    "it goes another way than when LAP was attached; turn gradient checkpointing off"
                )
        finally:
            _pass.lap, _pass.gated = outer
        return found

    def _gated_head(self, features: Tensor, aspect: float = 1.0) -> Tensor:
        """The head's gate on the map of the last features."""
        return self.head(self.info.split.layout.to_map(features, aspect), *self._classifier())

    def _classifier(self) -> tuple[Tensor | None, Tensor | None]:
        """Weights and biases of the last layer where the head is linear."""
        found = classifier_weights(self.backbone, self.info.split) if self.info.linear_head else None
        return found or (None, None)

    def release(self) -> nn.Module:
        """Take the gates off and give the backbone back, see `interp_core.detach`."""
        self._check_attached()
        for handle in self._handles:
            handle.remove()
        self.attached = False
        return self.backbone

    def _check_attached(self) -> None:
        if not self.attached:
            raise BackboneError("this LAP model was detached: attach its backbone again")

    # What timm's own tools read from a model.

    @property
    def num_classes(self) -> int:
        """K."""
        return self.info.classes

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How timm says images must be prepared."""
        return getattr(self.backbone, "pretrained_cfg", None) or {}

    default_cfg = pretrained_cfg

    def get_classifier(self) -> nn.Module:
        """The backbone's last layer."""
        return self.backbone.get_classifier()  # type: ignore[operator]

    def reset_classifier(self, num_classes: int, **kwargs: Any) -> None:
        """A new last layer for other classes, and a new block at the head, its attention off."""
        self._check_attached()
        self.backbone.reset_classifier(num_classes, **kwargs)  # type: ignore[operator]
        parameter, training = self.head.a, self.head.training
        self.info = inspect_backbone(self.backbone, self.options.image_size)
        self.head = _head_block(self.info, self.options).to(parameter.device, parameter.dtype).train(training)

    def __enter__(self) -> LapModel:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _tb: TracebackType | None
    ) -> Literal[False]:
        if self.attached:
            self.release()
        return False


def _default_finest(backbone: nn.Module, info: BackboneInfo, options: LapOptions) -> int:
    """Return the reduction of the finest gates, coarser where the size of the images is known to be large."""
    is_size_known = options.image_size is not None or getattr(backbone, "pretrained_cfg", None)
    return max(FINEST, ceil(max(info.size) / MAX_CELLS)) if is_size_known else FINEST


def _gated_sites(info: BackboneInfo, finest: int | None) -> tuple[Site, ...]:
    return tuple(site for site in info.sites if finest is None or site.reduction >= finest)


def _head_block(info: BackboneInfo, options: LapOptions) -> HeadBlock:
    return HeadBlock(
        info.channels,
        info.classes,
        evidence=info.linear_head,
        hidden=options.hidden,
        candidates=options.candidates,
        weighting=options.weighting,
    )


def _tap(backbone: nn.Module, site: Site, index: int) -> torch.utils.hooks.RemovableHandle:
    module, tap = backbone.get_submodule(site.module), _Tap(index)
    return module.register_forward_pre_hook(tap) if site.before else module.register_forward_hook(tap)


def _register(backbone: nn.Module, site: Site, index: int) -> torch.utils.hooks.RemovableHandle:
    module = backbone.get_submodule(site.module)
    if site.before:
        return module.register_forward_pre_hook(_GateInput(index))
    return module.register_forward_hook(_GateOutput(index))


def lap_within(model: nn.Module) -> LapModel | None:
    """The LAP model itself, or inside what `torch.compile` or a parallel wrapper made of it; None for other models."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return lap_within(inner)
    return model if isinstance(model, LapModel) else None


def is_gated(model: nn.Module) -> bool:
    """Whether LAP is attached to the model or to a part of it."""
    if any(isinstance(module, GateBlock | HeadBlock) for module in model.modules()):
        return True
    hooks = (
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    )
    return any(isinstance(hook, _Hook | _Tap) for hook in hooks)
