"""Blocks of local attention pooling: one for each level below the head, one for the head.

A block learns concept maps I_j = sigmoid(f_j(X)) in [0, 1] with a small scorer f. Their aggregate S gives the window
weights of `interp_core.lap.pooling`. The block returns the gated features |W| A X, which at a = 0 are the features
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.lap.pooling import Weighting, Window, apply_gate, attention_gate
from interp_core.lap.recording import GateRecord, HeadRecord, Recording

AGGREGATES = ("max", "mean", "learned")


def pointwise(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a 1x1 convolution, (N, C, H, W) to (N, O, H, W).

    With few outputs a matrix product takes a third of the time on a CPU, in either memory format.
    """
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        return F.conv2d(features, weight, bias)
    matrix = weight.flatten(1)
    if features.is_contiguous(memory_format=torch.channels_last):
        return F.linear(features.permute(0, 2, 3, 1), matrix, bias).permute(0, 3, 1, 2)
    flat, matrices = features.flatten(2), matrix.expand(features.shape[0], -1, -1)
    product = torch.bmm(matrices, flat) if bias is None else torch.baddbmm(bias[:, None], matrices, flat)
    return product.reshape(*product.shape[:2], *features.shape[-2:])


def project(layer: nn.Module, maps: Tensor) -> Tensor:
    """Apply a 1x1 convolution to maps scaled by their RMS.

    The few outputs are divided and not the many inputs. The bias stays as it is.
    """
    assert isinstance(layer, nn.Conv2d)
    product = pointwise(maps, layer.weight) * inverse_rms(maps)
    return product if layer.bias is None else product + layer.bias[:, None, None]


def inverse_rms(maps: Tensor) -> Tensor:
    """Compute 1 / root mean square of each image's maps.

    From (N, C, H, W) to (N, 1, 1, 1).
    """
    return torch.rsqrt(maps.square().mean((1, 2, 3), keepdim=True) + 1e-12)


def unit(maps: Tensor) -> Tensor:
    """Scale each image's maps (N, C, H, W) to a root mean square of 1."""
    return maps * inverse_rms(maps)


class Scorer(nn.Module):
    """Scorer f: 1x1 convolution to a few channels, ReLU, 1x1 convolution.

    It has no norm and takes any input size.

    Args:
        channels: input channels C.
        concepts: outputs J.
        hidden: width h of the hidden layer.
        bias: initial value of every output.
        silent: start with output weights at zero, so that all outputs are `bias`.
    """

    def __init__(self, channels: int, concepts: int, hidden: int, *, bias: float, silent: bool = False) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, concepts, 1)
        self._bias, self._silent = bias, silent
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set initial values.

        Randomisation tests call this too.
        """
        self.reduce.reset_parameters()
        self.expand.reset_parameters()
        with torch.no_grad():
            _bias_of(self.expand).fill_(self._bias)
            if self._silent:
                self.expand.weight.zero_()

    def hidden(self, features: Tensor) -> Tensor:
        """Compute the hidden layer, (N, h, H, W)."""
        return F.relu(pointwise(features, self.reduce.weight, self.reduce.bias))

    def forward(self, features: Tensor) -> Tensor:
        """Score each concept at each position, (N, J, H, W)."""
        return pointwise(self.hidden(features), self.expand.weight, self.expand.bias)


class Block(nn.Module):
    """Base class of the two blocks.

    Attributes:
        attention_gradient: whether features learn through attention in training mode, see `interp_core.training`. In
            evaluation mode gradients are always exact.
    """

    attention_gradient: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether the gradient of the features passes through attention."""
        return self.attention_gradient or not self.training

    def _scored(self, values: Tensor) -> Tensor:
        """Return what the scorer sees: the values, without gradient where they do not learn through attention."""
        return values if self.is_exact else values.detach()


class GateBlock(Block):
    """LAP below the head: a gate before an operation that loses resolution.

    Args:
        name: name of the level, key of its entry in a `Recording`.
        channels: C.
        window: side of the windows, or their rows and columns: the stride of the operation that follows.
        concepts: names of the J concepts; one class-agnostic concept by default.
        hidden: width of the scorer.
        aggregate: how S comes from the concept maps I_j, one of `AGGREGATES`: their "max", their "mean", or "learned",
            sum_j softmax(m)_j I_j with a weight m_j for each concept, equal at first.
        weighting: how the positions of a window are weighed; see `interp_core.lap.pooling`.

    Attributes:
        trained: whether training has given the scores a meaning, a bool scalar; `fit` sets it.
    """

    trained: Tensor

    def __init__(
        self,
        name: str,
        channels: int,
        window: Window,
        *,
        concepts: Sequence[str] = ("any",),
        hidden: int = 16,
        aggregate: str = "max",
        weighting: Weighting = "rbf",
    ) -> None:
        super().__init__()
        self.weighting: Weighting = weighting
        self.name, self.window, self.concepts, self.aggregate = name, window, tuple(concepts), aggregate
        self.scorer = Scorer(channels, len(self.concepts), hidden, bias=0.0)
        self.mix = nn.Parameter(torch.zeros(len(self.concepts))) if aggregate == "learned" else None
        self.a = nn.Parameter(torch.zeros(()))
        self.register_buffer("trained", torch.zeros((), dtype=torch.bool))

    def reset_parameters(self) -> None:
        """Turn attention off and make concepts equal.

        The scorer resets itself.
        """
        nn.init.zeros_(self.a)
        self.trained.fill_(False)
        if self.mix is not None:
            nn.init.zeros_(self.mix)

    def forward(self, features: Tensor, recording: Recording | None = None) -> Tensor:
        """Multiply features by |W| A, which is 1 where a = 0.

        Args:
            features: X.
            recording: gets the record of this level, if given.
        """
        concepts = torch.sigmoid(self.scorer(self._scored(features)))
        scores = self._aggregate(concepts)
        # Under autocast part of the gate is computed in single precision, but features keep their type.
        gate = attention_gate(scores, self.a, self.window, self.weighting).to(features.dtype)
        if recording is not None:
            if features.requires_grad and not self.is_exact:
                concepts = torch.sigmoid(self.scorer(features))  # knowledge of a concept teaches the features too
            recording.gates[self.name] = GateRecord(concepts, scores, gate)
        return apply_gate(features, gate, attention_gradient=self.is_exact)

    def _aggregate(self, concepts: Tensor) -> Tensor:
        if concepts.shape[1] == 1:
            return concepts
        if self.mix is not None:
            return (concepts * self.mix.softmax(0)[:, None, None]).sum(1, keepdim=True)
        return concepts.amax(1, keepdim=True) if self.aggregate == "max" else concepts.mean(1, keepdim=True)


class HeadBlock(Block):
    """LAP at the global pooling: one attention map for all classes.

    Where the head is linear the concept scores start from the classifier's own activations W_k . X,

        I_k = sigmoid(g z_k + c_k + delta_k(X)),  z_k = W_k . X(:, p) standardised over the map,  delta_k = 0 at first.

    Elsewhere I_k = sigmoid(c_k + delta_k(X)). S is the maximum over all classes where they are few. Else it is the
    maximum over the `candidates` with the highest logits after average pooling, or with the highest mean score where
    the head is not linear. Activations of 1,000 classes would cost a fifth of a MobileNetV2, and a maximum over 1,000
    standardised maps is flat.

    Args:
        channels: C of the last features.
        classes: K.
        hidden: width of the scorer.
        linear_head: whether the head is linear, so that `forward` gets the classifier's weights.
        candidates: largest number of classes in the maximum S.
        gain: initial g.
        bias: initial c_k.
        weighting: how the positions of the map are weighed; see `interp_core.lap.pooling`.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        linear_head: bool,
        hidden: int = 32,
        candidates: int = 10,
        gain: float = 1.5,
        bias: float = -2.0,
        weighting: Weighting = "rbf",
    ) -> None:
        super().__init__()
        self.weighting: Weighting = weighting
        self.classes, self.candidates, self._gain = classes, candidates, gain
        self.scorer = Scorer(channels, classes, hidden, bias=bias, silent=linear_head)
        self.gain = nn.Parameter(torch.tensor(gain)) if linear_head else None
        self.a = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        """Turn attention off and set the initial gain.

        The scorer resets itself.
        """
        nn.init.zeros_(self.a)
        if self.gain is not None:
            nn.init.constant_(self.gain, self._gain)

    def concepts(self, features: Tensor, weight: Tensor | None, classes: Tensor | None = None) -> Tensor:
        """Compute concept maps in [0, 1].

        Args:
            features: (N, C, H, W).
            weight: (K, C) classifier weights where the head is linear, else None.
            classes: (N, m) class indices per image; None for all classes.

        Returns:
            (N, m, H, W), or (N, K, H, W).
        """
        activations = None if weight is None else class_activations(weight, features, classes)
        return torch.sigmoid(self._scores(self.scorer.hidden(self._scored(features)), activations, classes))

    def target_maps(self, record: HeadRecord, weight: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the targets' concept maps from a recorded pass.

        This costs next to nothing.

        Args:
            record: of the forward pass.
            weight: (K, C) classifier weights where the head is linear, else None.
            targets: (N,) or (N, m) class indices.

        Returns:
            Concept maps and activations W_k . X (None without `weight`), (N, 1, h, w) or (N, m, h, w).
        """
        classes = targets if targets.ndim == 2 else targets[:, None]
        activations = None if weight is None else class_activations(weight, record.features, classes)
        return torch.sigmoid(self._scores(record.hidden, activations, classes)), activations

    def _scores(self, hidden: Tensor, activations: Tensor | None, classes: Tensor | None) -> Tensor:
        """Compute the logits of the concept maps."""
        weight, bias = self.scorer.expand.weight, _bias_of(self.scorer.expand)
        if classes is None:
            score = pointwise(hidden, weight, bias)
        else:
            score = class_activations(weight.flatten(1), hidden, classes) + bias[classes][..., None, None]
        if self.gain is not None and activations is not None:
            score = score + self.gain * _standardise(self._scored(activations))
        return score

    def forward(
        self,
        features: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        recording: Recording | None = None,
    ) -> Tensor:
        """Multiply features by |W| A over the whole map.

        It is 1 where a = 0.

        Args:
            features: X.
            weight: (K, C) classifier weights where the head is linear, else None.
            bias: (K,) classifier biases, if it has any.
            recording: gets the record of the head, if given.
        """
        all_concepts = recording is not None and recording.all_concepts
        candidates = self._likeliest_classes(features, weight, bias)
        hidden, activations = self._scorer_inputs(features, weight, None if all_concepts else candidates)
        if weight is None:
            candidates = self._highest_scored_classes(hidden)
        scores = self._scores(hidden, activations, None if all_concepts else candidates)
        compared = _maps_of(scores, candidates) if all_concepts and candidates is not None else scores
        # The sigmoid of the maximum is the maximum of the sigmoids, and is computed for one map only.
        score = torch.sigmoid(compared.amax(1, keepdim=True))
        gate = attention_gate(score, self.a, None, self.weighting).to(features.dtype)
        if recording is not None:
            concepts = torch.sigmoid(scores) if all_concepts else None
            recording.head_record = HeadRecord(features, hidden, gate, concepts)
        return apply_gate(features, gate, attention_gradient=self.is_exact)

    def _scorer_inputs(
        self, features: Tensor, weight: Tensor | None, classes: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the scorer's hidden layer and the classes' activations.

        For all classes one convolution serves both.
        """
        features = self._scored(features)
        if weight is None or classes is not None:
            activations = None if weight is None else class_activations(weight, features, classes)
            return self.scorer.hidden(features), activations
        reduce = self.scorer.reduce
        joint = pointwise(features, torch.cat([reduce.weight, weight[..., None, None]]))
        hidden, activations = torch.split(joint, [len(reduce.weight), len(weight)], dim=1)
        return F.relu(hidden + _bias_of(reduce)[:, None, None]), activations

    def _likeliest_classes(self, features: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor | None:
        """Return the classes with the highest logits after average pooling.

        (N, m) class indices; None for all classes.
        """
        if weight is None or self.classes <= self.candidates:
            return None
        return F.linear(features.mean((2, 3)), weight, bias).topk(self.candidates, dim=1).indices

    def _highest_scored_classes(self, hidden: Tensor) -> Tensor | None:
        """Return the classes with the highest mean score.

        (N, m) class indices; None for all classes.

        The score is linear in its hidden layer, so that the mean of the latter is enough.
        """
        if self.classes <= self.candidates:
            return None
        expand = self.scorer.expand
        means = F.linear(hidden.mean((2, 3)), expand.weight.flatten(1), expand.bias)
        return means.topk(self.candidates, dim=1).indices


def class_activations(weight: Tensor, features: Tensor, classes: Tensor | None) -> Tensor:
    """Compute W_k . X(:, p) for some classes.

    Args:
        weight: W, (K, C).
        features: X, (N, C, H, W).
        classes: (N, m) class indices per image; None for all classes.

    Returns:
        (N, m, H, W), or (N, K, H, W).
    """
    if classes is None:
        return pointwise(features, weight[..., None, None])
    products = torch.bmm(weight[classes], features.flatten(2))
    return products.reshape(*products.shape[:2], *features.shape[-2:])


def _maps_of(maps: Tensor, classes: Tensor) -> Tensor:
    """Select the maps of some classes.

    From maps (N, K, H, W) and classes (N, m) to (N, m, H, W).
    """
    return maps.gather(1, classes[..., None, None].expand(-1, -1, *maps.shape[-2:]))


def _bias_of(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _standardise(maps: Tensor) -> Tensor:
    """Scale each map to mean 0 and standard deviation 1.

    A flat map becomes zero.
    """
    centred = maps - maps.mean((2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + 1e-6)
