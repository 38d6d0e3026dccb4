"""The blocks that learn the scores behind local attention pooling: one for each level below the head, one for the head.

Concept maps are I_j = sigmoid(f_j(X)) in [0, 1] with a small scorer f; their aggregate S goes into the window weights
of `interp_core.lap.pooling`. A block hands on the gated features |W| A X, which at a = 0 are the features themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.lap.pooling import Weighting, attention_gate
from interp_core.lap.recording import GateRecord, Recording, wanted_recording

AGGREGATES = ("max", "mean", "learned")


def pointwise(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of features (N, C, H, W) by weights (O, C, 1, 1).

    On a CPU a matrix product, in either memory format, takes a third of the time where outputs are few.
    """
    if features.device.type != "cpu" or torch.compiler.is_compiling():
        return F.conv2d(features, weight, bias)
    matrix = weight.flatten(1)
    if features.is_contiguous(memory_format=torch.channels_last):
        return F.linear(features.permute(0, 2, 3, 1), matrix, bias).permute(0, 3, 1, 2)
    flat, matrices = features.flatten(2), matrix.expand(features.shape[0], -1, -1)
    product = torch.bmm(matrices, flat) if bias is None else torch.baddbmm(bias[:, None], matrices, flat)
    return product.unflatten(2, features.shape[-2:])


class Scorer(nn.Module):
    """f: 1x1 convolution to a few channels, ReLU, 1x1 convolution to one value per concept; no norm, any input size.

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
        """Start values; also what randomisation tests call."""
        self.reduce.reset_parameters()
        self.expand.reset_parameters()
        with torch.no_grad():
            self.expand.bias.fill_(self._bias)  # type: ignore[union-attr]
            if self._silent:
                self.expand.weight.zero_()

    def hidden(self, features: Tensor) -> Tensor:
        """Hidden layer (N, h, H, W) of features (N, C, H, W)."""
        return F.relu(pointwise(features, self.reduce.weight, self.reduce.bias))

    def forward(self, features: Tensor) -> Tensor:
        """One real-valued score per concept and position, (N, J, H, W)."""
        return pointwise(self.hidden(features), self.expand.weight, self.expand.bias)


class GateBlock(nn.Module):
    """LAP at a level inside the network: gates features (N, C, H, W) before an operation that loses resolution.

    Args:
        name: name of the level, key of its entry in a `Recording`.
        channels: C.
        window: side of the windows, the stride of the operation that follows.
        concepts: names of the J concepts; one class-agnostic concept by default.
        hidden: width of the scorer.
        aggregate: how S comes from the concept maps I_j, one of `AGGREGATES`: their "max", their "mean", or "learned",
            sum_j softmax(m)_j I_j with a weight m_j for each concept, equal at first.
        weighting: of the positions of a window; see `interp_core.lap.pooling`.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        window: int,
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

    def reset_parameters(self) -> None:
        """Attention off, equal concepts; the scorer resets itself."""
        nn.init.zeros_(self.a)
        if self.mix is not None:
            nn.init.zeros_(self.mix)

    def forward(self, features: Tensor) -> Tensor:
        """Features times |W| A, same shape; the input itself in value where a = 0."""
        concepts = torch.sigmoid(self.scorer(features))
        scores = self._aggregate(concepts)
        # Under autocast some of what makes the gate stays in single precision; features keep the type they had.
        gate = attention_gate(scores, self.a, self.window, self.weighting).to(features.dtype)
        record = wanted_recording()
        if record is not None:
            record.gates[self.name] = GateRecord(concepts, scores, gate)
        return features * gate

    def _aggregate(self, concepts: Tensor) -> Tensor:
        if concepts.shape[1] == 1:
            return concepts
        if self.mix is not None:
            return (concepts * self.mix.softmax(0)[:, None, None]).sum(1, keepdim=True)
        return concepts.amax(1, keepdim=True) if self.aggregate == "max" else concepts.mean(1, keepdim=True)


class HeadBlock(nn.Module):
    """LAP at the global pooling: one attention map over the whole map, from the concept maps of the classes.

    Where the head is linear the concept score starts from what the classifier knows already,

        I_k = sigmoid(g z_k + c_k + delta_k(X)),  z_k = W_k . X(:, p) standardised over the map,  delta_k = 0 at first;

    elsewhere I_k = sigmoid(c_k + delta_k(X)). S is the maximum over the classes in question: all of them where they
    are few, else the `candidates` with the highest logits after average pooling, or where the head is not linear with
    the highest mean score. Evidence of 1,000 classes would cost a fifth of a MobileNetV2, and a maximum over 1,000
    standardised maps is flat.

    Args:
        channels: C of the last features.
        classes: K.
        hidden: width of the scorer.
        evidence: whether the head is linear, so that `weight` will be given.
        candidates: most classes that S looks at.
        gain: initial g.
        bias: initial c_k.
        weighting: of the positions of the map; see `interp_core.lap.pooling`.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        evidence: bool,
        hidden: int = 32,
        candidates: int = 10,
        gain: float = 1.5,
        bias: float = -2.0,
        weighting: Weighting = "rbf",
    ) -> None:
        super().__init__()
        self.weighting: Weighting = weighting
        self.classes, self.evidence, self.candidates, self._gain = classes, evidence, candidates, gain
        self.scorer = Scorer(channels, classes, hidden, bias=bias, silent=evidence)
        self.gain = nn.Parameter(torch.tensor(gain)) if evidence else None
        self.a = nn.Parameter(torch.zeros(()))

    def reset_parameters(self) -> None:
        """Attention off and the evidence at its first gain; the scorer resets itself."""
        nn.init.zeros_(self.a)
        if self.gain is not None:
            nn.init.constant_(self.gain, self._gain)

    def concepts(self, features: Tensor, weight: Tensor | None, chosen: Tensor | None = None) -> Tensor:
        """Concept maps in [0, 1].

        Args:
            features: (N, C, H, W).
            weight: (K, C) classifier weights where the head is linear, else None.
            chosen: (N, m) class indices per image; None for all classes.

        Returns:
            (N, m, H, W), or (N, K, H, W).
        """
        evidence = None if weight is None else select(weight, features, chosen)
        return torch.sigmoid(self._scores(self.scorer.hidden(features), evidence, chosen))

    def target_maps(self, record: Recording, weight: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Concept map of each image's target and the evidence W_k . X behind it (None without `weight`), (N, 1, h, w).

        Targets (N, m) give (N, m, h, w).

        Reuses what the recorded forward pass computed, so that explaining costs next to nothing.
        """
        assert record.features is not None
        assert record.hidden is not None
        chosen = targets if targets.ndim == 2 else targets[:, None]
        evidence = None if weight is None else select(weight, record.features, chosen)
        return torch.sigmoid(self._scores(record.hidden, evidence, chosen)), evidence

    def _scores(self, hidden: Tensor, evidence: Tensor | None, chosen: Tensor | None) -> Tensor:
        """What the sigmoid makes concept maps of."""
        expand = self.scorer.expand
        assert expand.bias is not None
        if chosen is None:
            score = pointwise(hidden, expand.weight, expand.bias)
        else:
            score = select(expand.weight.flatten(1), hidden, chosen) + expand.bias[chosen][..., None, None]
        if self.gain is not None and evidence is not None:
            score = score + self.gain * _standardised(evidence)
        return score

    def forward(self, features: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Features times |W| A over the whole map, same shape; the input itself in value where a = 0.

        Args:
            features: (N, C, H, W).
            weight: (K, C) classifier weights where the head is linear, else None.
            bias: (K,) classifier biases, if it has any.
        """
        record = wanted_recording()
        every = record is not None and record.all_concepts
        chosen = self._likely(features, weight, bias)
        hidden, evidence = self._hidden_and_evidence(features, weight, None if every else chosen)
        if weight is None:
            chosen = self._highest(hidden)
        scores = self._scores(hidden, evidence, None if every else chosen)
        highest = (_pick(scores, chosen) if every and chosen is not None else scores).amax(1, keepdim=True)
        # The sigmoid of the maximum is the maximum of the sigmoids, for one class in a thousand's work.
        gate = attention_gate(torch.sigmoid(highest), self.a, None, self.weighting).to(features.dtype)
        if record is not None:
            record.features, record.hidden, record.head_gate = features, hidden, gate
            record.concepts = torch.sigmoid(scores) if every else None
        return features * gate

    def _hidden_and_evidence(
        self, features: Tensor, weight: Tensor | None, chosen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The scorer's hidden layer and the classes' evidence; of all classes by one convolution for both."""
        if weight is None or chosen is not None:
            return self.scorer.hidden(features), None if weight is None else select(weight, features, chosen)
        reduce = self.scorer.reduce
        assert reduce.bias is not None
        both = pointwise(features, torch.cat([reduce.weight, weight[..., None, None]]))
        hidden, evidence = both.split([len(reduce.weight), len(weight)], dim=1)
        return F.relu(hidden + reduce.bias[:, None, None]), evidence

    def _likely(self, features: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor | None:
        """The classes with the highest logits after average pooling, (N, m)."""
        if weight is None or self.classes <= self.candidates:
            return None
        return F.linear(features.mean((2, 3)), weight, bias).topk(self.candidates, dim=1).indices

    def _highest(self, hidden: Tensor) -> Tensor | None:
        """The classes with the highest mean score, (N, m), for a score that is linear in its hidden layer."""
        if self.classes <= self.candidates:
            return None
        expand = self.scorer.expand
        means = F.linear(hidden.mean((2, 3)), expand.weight.flatten(1), expand.bias)
        return means.topk(self.candidates, dim=1).indices


def _pick(maps: Tensor, chosen: Tensor) -> Tensor:
    """Maps (N, K, H, W) of the chosen (N, m) classes: (N, m, H, W)."""
    return maps.gather(1, chosen[..., None, None].expand(-1, -1, *maps.shape[-2:]))


def select(weight: Tensor, features: Tensor, chosen: Tensor | None) -> Tensor:
    """weight[k] . X(:, p) for all classes (N, K, H, W), or for the chosen (N, m) ones (N, m, H, W)."""
    if chosen is None:
        return pointwise(features, weight[..., None, None])
    return torch.bmm(weight[chosen], features.flatten(2)).unflatten(2, features.shape[-2:])


def _standardised(maps: Tensor) -> Tensor:
    """Each map (N, J, H, W) with mean 0 and standard deviation 1 over its positions; zero where it is flat."""
    centred = maps - maps.mean((2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + 1e-6)
