"""A network with LAP attached.

Gates below the head are forward hooks on the backbone's own modules. So no module is replaced, no key of the state
dict changes, and `detach` only removes the hooks. Outside a pass of the LAP model they do nothing. The head's pooling
becomes LAP by gating its input, since the average of |W| A X is sum A X.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from math import ceil
from types import TracebackType
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from interp_core.backbone.copies import copy_network
from interp_core.backbone.geometry import CellGrid, resize
from interp_core.backbone.inspect import BackboneInfo, inspect_backbone
from interp_core.backbone.linear_head import classifier_weights
from interp_core.backbone.sites import Site
from interp_core.backbone.timm_models import WITHOUT_WEIGHTS, BackboneSpec, create_backbone
from interp_core.backbone.trace import evaluating
from interp_core.errors import BackboneError, ContractError
from interp_core.lap.blocks import GateBlock, HeadBlock
from interp_core.lap.explanation import Explanation, LevelMaps, first_order, head_contributions
from interp_core.lap.forward_pass import ForwardPass, has_hooks, register_hooks
from interp_core.lap.hub import HubMixin
from interp_core.lap.input_checks import check_images, check_logits, check_size, check_targets, name_size
from interp_core.lap.options import LapOptions, check_concepts, concepts_as_lists, names_by_site
from interp_core.lap.pooling import window_counts
from interp_core.lap.recording import ConceptRecord, HeadRecord, Recording, TargetRecord
from interp_core.lap.redistribution import FinerLevel, MovedLevel, Redistribution, detail, levels_below, to_pixels
from interp_core.lap.refine import Refiner, levels_to_refine, map_from_scores
from interp_core.lap.steps import constant_weights, step_map
from interp_core.lap.wrappers import take_off_wrappers, unwrap

# Defaults of `finest`. A gate at half the input resolution costs as much as all others together and sees little more
# than edges. The same holds for one of 56 x 56 cells in a network made for phones.
FINEST, MAX_CELLS = 4, 40


class LapModel(HubMixin, nn.Module):
    """A backbone with LAP attached.

    `interp_core.attach` makes one.

    Attributes:
        backbone: the original network, unchanged. Called directly, it still is the plain network.
        gates: blocks below the head, finest first.
        head: block at the global pooling.
        redistribution: carries the head's contributions to finer grids; see `interp_core.lap.redistribution`.
        refiner: decoders of a map beside the decision, where requested; see `interp_core.lap.refine`.
        info: properties of the backbone.
        options: arguments of `attach`.
        backbone_spec: name and arguments of the timm backbone, if `create` made it.
        selects_output: whether `attach` put the backbone around a network, to select its logits.
    """

    def __init__(self, backbone: nn.Module, info: BackboneInfo, options: LapOptions) -> None:
        super().__init__()
        self.backbone, self.info, self.options = backbone, info, options
        self.backbone_spec: BackboneSpec | None = None
        self.sites = _sites_to_gate(info, options.finest)
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
            for site, names in zip(self.sites, names_by_site(options.concepts, self.sites), strict=True)
        )
        self.head = _head_block(info, options)
        self.levels = levels_below(info, options.cell, self.sites)
        self.redistribution = Redistribution(info.channels, [site.channels for site in self.levels])
        self.refined_levels = levels_to_refine(info, options.refine) if options.refine else ()
        self.refiner = Refiner(info.channels, [s.channels for s in self.refined_levels]) if options.refine else None
        self.tapped = tuple(dict.fromkeys((*self.levels, *self.refined_levels)))
        self._handles = register_hooks(backbone, self.sites, self.tapped)
        self.attached = True
        self.selects_output = False

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
        backbone = take_off_wrappers(backbone) if isinstance(backbone, nn.Module) else backbone
        if isinstance(backbone, nn.Module) and is_gated(backbone):
            raise BackboneError("LAP is attached to this model already: use it, or detach it first")
        info = inspect_backbone(backbone, options.image_size)
        finest = options.finest if options.finest is not None else _default_finest(backbone, info, options)
        check_concepts(options.concepts, _sites_to_gate(info, finest))
        lap = cls(backbone, info, replace(options, finest=finest, concepts=concepts_as_lists(options.concepts)))
        parameter = next(p for p in backbone.parameters() if p.is_floating_point())
        lap.training = backbone.training
        for block in (lap.gates, lap.head, lap.redistribution, lap.refiner):
            if block is not None:
                block.to(parameter.device, parameter.dtype).train(backbone.training)
        return lap

    @classmethod
    def _from_description(cls, description: dict[str, Any], backbone: nn.Module | None) -> Self:
        spec: BackboneSpec | None = description.get("recipe")
        if backbone is None:
            assert spec is not None
            backbone = create_backbone(spec["name"], **spec["kwargs"] | WITHOUT_WEIGHTS)
        lap = cls.from_backbone(backbone, LapOptions(**description["options"]))
        lap.backbone_spec = spec
        return lap

    def forward(self, images: Tensor, recording: Recording | None = None) -> Tensor:
        """Compute logits (N, K).

        Args:
            images: (N, C, H, W).
            recording: gets intermediate results, if given.
        """
        features, sizes = self._run_backbone(images, recording)
        gated = self._gate_head(features, images.shape[-2] / images.shape[-1], recording)
        partition = self.info.partition

        def head(maps: Tensor) -> Tensor:
            return partition.head(self.backbone, partition.layout.from_map(maps, features), sizes)

        target = None if recording is None else recording.target
        if target is None:
            return head(gated)
        choose = partial(check_targets, target.request)
        if not self.info.linear_head:
            logits, target.classes, target.contributions = first_order(gated, head, choose)
            return logits
        logits = head(gated)
        target.classes = choose(logits)
        return logits

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the last features, gated below the head.

        They have the backbone's layout. Part of timm's protocol.
        """
        return self._run_backbone(images)[0]

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute logits from the output of `forward_features`.

        With `pre_logits`, compute the last layer's input instead. Part of timm's protocol.
        """
        gated = self.info.partition.layout.from_map(self._gate_head(features), features)
        if pre_logits:
            return self.backbone.forward_head(gated, pre_logits=True)  # type: ignore[operator,no-any-return]
        return self.info.partition.head(self.backbone, gated, ())

    def _run_backbone(self, images: Tensor, recording: Recording | None = None) -> tuple[Tensor, tuple[Any, ...]]:
        """Run the backbone with the gates below the head.

        Returns the last features and the sizes that the head needs.
        """
        self._check_attached()
        with ForwardPass(self.sites, self.gates, self.tapped, recording) as forward_pass:
            features, sizes = self.info.partition.features(self.backbone, images)
        if forward_pass.gate_calls != len(self.sites):
            raise BackboneError(
                f"{type(self.backbone).__name__} called {forward_pass.gate_calls} of the {len(self.sites)} modules LAP "
                "gates: it goes another way than when LAP was attached; turn gradient checkpointing off"
            )
        return features, sizes

    def _gate_head(self, features: Tensor, aspect: float = 1.0, recording: Recording | None = None) -> Tensor:
        """Apply the head's gate to the map of the last features."""
        weight, bias = self._classifier()
        gated: Tensor = self.head(self.info.partition.layout.to_map(features, aspect), weight, bias, recording)
        return gated

    def _classifier(self) -> tuple[Tensor | None, Tensor | None]:
        """Return weights and biases of a linear head.

        (None, None) where the head is not linear.
        """
        weights = classifier_weights(self.backbone, self.info.partition) if self.info.linear_head else None
        return weights or (None, None)

    def explain(
        self, images: Tensor, targets: Tensor | int | None = None, *, steps: int = 0, multi_label: bool = False
    ) -> Explanation:
        """Explain the logits of `targets` from one forward pass in evaluation mode.

        Args:
            images: (N, C, H, W) floating point, N >= 1, normalised as for `forward`.
            targets: (N,) class indices, one class for all, or None for the predicted classes.
            steps: number of gradient steps on the images that go on from the map and give `Explanation.stepped`; see
                `interp_core.lap.steps`. Each costs two more passes forward and back for each image.
            multi_label: whether the steps judge the class by its own sigmoid, instead of by the softmax over all. A
                network with one logit always has a sigmoid.

        Raises:
            ContractError: images or targets that the model cannot take, or a negative number of steps.
        """
        self._check_attached()
        if steps < 0:
            raise ContractError(f"explain takes a number of steps >= 0, got {steps}")
        check_images(images, self.info.in_channels, self.head.a)
        if not torch.compiler.is_compiling() and self._must_leave_inference_mode(images, steps):
            lap = copy_network(self) if any(p.is_inference() for p in self.parameters()) else self
            with torch.inference_mode(False):
                return lap.explain(images.clone(), targets, steps=steps, multi_label=multi_label)
        check_size(images, self.info.grid_of((images.shape[-2], images.shape[-1])))
        recording = Recording(target=TargetRecord(targets))
        mode = evaluating(self) if self.training else nullcontext()  # going through all modules takes time
        named = nullcontext() if torch.compiler.is_compiling() else name_size(images, self.info.size)
        with mode, torch.no_grad():
            with named:
                logits = self(images, recording)
            check_logits(logits, images)
            explanation = self._explanation(images, logits, recording)
            if not steps:
                return explanation
            multi_label = multi_label or self.num_classes == 1
            with constant_weights(self):
                stepped = step_map(self, images, explanation.targets, explanation.map, steps, multi_label=multi_label)
        return replace(explanation, stepped=stepped)

    def _must_leave_inference_mode(self, images: Tensor, steps: int) -> bool:
        """Return whether an explanation needs gradients that tensors of inference mode cannot have."""
        needs_gradients = steps > 0 or not self.info.linear_head
        is_inside = torch.is_inference_mode_enabled() or images.is_inference()
        return needs_gradients and (is_inside or any(p.is_inference() for p in self.parameters()))

    def _explanation(self, images: Tensor, logits: Tensor, recording: Recording) -> Explanation:
        """Build an explanation from a recorded pass."""
        record, target = recording.head, recording.target
        assert target is not None
        assert target.classes is not None
        concept, contributions, bias = self._explain_target(logits, record, target.classes, target.contributions)
        moved = self.redistribute(recording, target.classes, contributions, (images.shape[-2], images.shape[-1]))
        finest = moved[0].contributions if moved else contributions
        attention = record.gate / (record.gate.shape[-2] * record.gate.shape[-1])
        below = [self._level_maps(site, level, recording) for site, level in zip(self.levels, moved, strict=True)]
        head = LevelMaps("head", contributions, attention, ("target",), ConceptRecord(concept, concept), trained=True)
        refined = self._refined_map(images, recording, target.classes, contributions, concept)
        return Explanation(
            self.to_pixels(finest, images), target.classes, logits, bias, (*below, head), images, refined
        )

    def _level_maps(self, site: Site, level: MovedLevel, recording: Recording) -> LevelMaps:
        """Collect the maps of a level below the head."""
        # A list, since the compiler of older torch versions takes no default of `next`.
        indices = [i for i, gated in enumerate(self.sites) if gated.module == site.module]
        if not indices:
            return LevelMaps(site.module, level.contributions)
        record, block = recording.gates[site.module], cast(GateBlock, self.gates[indices[0]])
        counts = window_counts(record.gate.shape[-2], record.gate.shape[-1], site.window).to(record.gate)
        attention = record.gate / counts
        return LevelMaps(site.module, level.contributions, attention, block.concepts, record, block.trained.clone())

    def _refined_map(
        self, images: Tensor, recording: Recording, classes: Tensor, contributions: Tensor, concept: Tensor
    ) -> Tensor | None:
        """Compute the map of the decoders (N, 1, H, W), if there are any."""
        if self.refiner is None:
            return None
        native = map_from_scores(*self.refiner(*self.decoder_inputs(recording, classes, contributions, concept)))
        height, width = images.shape[-2:]
        return resize(native, height, width, self.refined_grid_of((height, width))) * detail(images)

    def redistribute(
        self, recording: Recording, targets: Tensor, contributions: Tensor, size: tuple[int, int]
    ) -> list[MovedLevel]:
        """Carry the contributions of one class per image to all levels, finest first.

        Args:
            recording: of a forward pass.
            targets: class indices of the first n images, (n,).
            contributions: of these classes at the head, (n, 1, h, w).
            size: rows and columns of the images.
        """
        count = contributions.shape[0]  # not len(), which an export takes for a constant
        below = [
            FinerLevel(
                recording.taps[site.module][:count].to(contributions.dtype),
                recording.gates[site.module].gate[:count] if site.module in recording.gates else None,
                site.grid_of(size).shown(),
            )
            for site in self.levels
        ]
        moved: list[MovedLevel] = self.redistribution(
            self._parts(recording.head, targets), contributions, self.info.grid_of(size).shown(), below
        )
        return moved

    def to_pixels(self, contributions: Tensor, images: Tensor) -> Tensor:
        """Spread contributions of the finest level (N, 1, h, w) over the pixels of images, (N, 1, H, W) float32."""
        finest = self.levels[0] if self.levels else self.info
        grid = finest.grid_of((images.shape[-2], images.shape[-1])).shown()
        return to_pixels(contributions, grid, images)

    def _parts(self, record: HeadRecord, targets: Tensor) -> Tensor | None:
        """Return gated features times the class' weights, (n, C, h, w) of n targets; None if the head is not linear."""
        weight, _ = self._classifier()
        count = targets.shape[0]
        return (
            None
            if weight is None
            else record.features[:count] * (weight[targets][..., None, None] * record.gate[:count])
        )

    def _explain_target(
        self, logits: Tensor, record: HeadRecord, classes: Tensor, contributions: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute concept map, contributions and bias of each image's class.

        Shapes are (N, 1, h, w), (N, 1, h, w) and (N,).

        Args:
            logits: (N, K).
            record: of the head.
            classes: (N,) class indices.
            contributions: (N, 1, h, w) where the head is not linear; then the bias is the rest of the logit.
        """
        weight, biases = self._classifier()
        concept, activations = self.head.target_maps(record, weight, classes)
        if activations is not None:
            contributions = head_contributions(activations, record.gate)
            bias = logits.new_zeros(len(logits)) if biases is None else biases[classes].to(logits.dtype)
            return concept, contributions, bias
        assert contributions is not None
        return concept, contributions, logits.gather(1, classes[:, None])[:, 0] - contributions.sum((1, 2, 3))

    def decoder_inputs(
        self, recording: Recording, targets: Tensor, contributions: Tensor, concept: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor, list[Tensor]]:
        """Collect what the decoders of a refined map take, see `interp_core.lap.refine`.

        Args:
            recording: of a forward pass.
            targets: (N,) class indices.
            contributions: of these classes at the head, (N, 1, h, w).
            concept: concept maps of these classes, (N, 1, h, w).
        """
        record = recording.head
        below = [recording.taps[site.module].to(record.features.dtype) for site in self.refined_levels]
        concept = concept.to(contributions.dtype)
        return self._parts(record, targets), record.features, contributions, concept, below

    def refined_grid_of(self, size: tuple[int, int]) -> CellGrid:
        """Return the position of the refined map's cells on images of a size.

        Args:
            size: rows and columns of the images.

        Raises:
            ContractError: the network cannot take images of that size.
        """
        if not self.refined_levels:
            return self.info.grid_of(size)
        # Cells of levels below the head are assumed to tile the image, unless the network crops or pads it by more
        # than a cell. Training places them on the same grid.
        grid = self.refined_levels[0].grid_of(size)
        tiling = CellGrid.tiling(grid.pitch)
        shifts = (abs(first - tiled) for first, tiled in zip(grid.first, tiling.first, strict=True))
        is_near = all(shift <= pitch for shift, pitch in zip(shifts, grid.pitch, strict=True))
        return tiling if is_near else grid

    def release(self) -> nn.Module:
        """Remove the gates and return the backbone, see `interp_core.detach`.

        Raises:
            BackboneError: it was detached before.
        """
        self._check_attached()
        for handle in self._handles:
            handle.remove()
        self.attached = False
        return self.backbone.network if self.selects_output else self.backbone  # type: ignore[return-value]

    def _check_attached(self) -> None:
        if not self.attached:
            raise BackboneError("this LAP model was detached: attach its backbone again")

    # Properties and methods that timm's own tools use.

    @property
    def num_classes(self) -> int:
        """K."""
        return self.info.classes

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """Timm's description of the backbone, such as the normalisation of its images."""
        return getattr(self.backbone, "pretrained_cfg", None) or {}

    default_cfg = pretrained_cfg  # timm's older name

    def get_classifier(self) -> nn.Module:
        """Return the backbone's last layer."""
        return self.backbone.get_classifier()  # type: ignore[operator,no-any-return]

    def reset_classifier(self, num_classes: int, **kwargs: Any) -> None:
        """Give the backbone a new last layer.

        The head gets a new block, with attention off.
        """
        self._check_attached()
        self.backbone.reset_classifier(num_classes, **kwargs)  # type: ignore[operator]
        parameter, training = self.head.a, self.head.training
        self.info = inspect_backbone(self.backbone, self.options.image_size)
        self.head = _head_block(self.info, self.options).to(parameter.device, parameter.dtype).train(training)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> Literal[False]:
        if self.attached:
            self.release()
        return False


def _default_finest(backbone: nn.Module, info: BackboneInfo, options: LapOptions) -> int:
    """Return the reduction of the finest gates.

    It is coarser where images are known to be large.
    """
    is_size_known = options.image_size is not None or getattr(backbone, "pretrained_cfg", None)
    return max(FINEST, ceil(max(info.size) / MAX_CELLS)) if is_size_known else FINEST


def _sites_to_gate(info: BackboneInfo, finest: int | None) -> tuple[Site, ...]:
    return tuple(site for site in info.sites if finest is None or site.reduction >= finest)


def _head_block(info: BackboneInfo, options: LapOptions) -> HeadBlock:
    return HeadBlock(
        info.channels,
        info.classes,
        linear_head=info.linear_head,
        hidden=options.hidden,
        candidates=options.candidates,
        weighting=options.weighting,
    )


def lap_within(model: nn.Module) -> LapModel | None:
    """Return the LAP model inside wrappers, or None for other models."""
    inner = unwrap(model)
    return inner if isinstance(inner, LapModel) else None


def is_gated(model: nn.Module) -> bool:
    """Return whether LAP is attached to the model or a part."""
    return any(isinstance(module, GateBlock | HeadBlock) for module in model.modules()) or has_hooks(model)
