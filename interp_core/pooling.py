"""Local attention pooling: the window weights as pure functions, and the blocks that learn the scores behind them.

Features X (N, C, H, W) get concept maps I_j = sigmoid(f_j(X)) in [0, 1], their aggregate S = max_j I_j, and inside
every window W

    r(p) = exp(-a^2 (max_{q in W} S(q) - S(p))^2),  A(p) = r(p) / sum_{q in W} r(q),  Y_W = sum_{p in W} A(p) X(:, p).

a = 0 is average pooling, a -> inf picks the position with the highest score. The blocks hand on the gated features
|W| A X, whose average over a window is Y_W; so one form serves a pooling that follows and any other operation that
loses resolution, and at a = 0 the gate is exactly 1.

After LAP, arXiv 2201.11808, as far as its abstracts and figures tell; the window weighting is the most likely reading
of them. Limit: only differences of scores matter inside a window, so a flat window says nothing; the concept maps
carry that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.memo import constant

AGGREGATES = ("max", "mean", "learned")


def _window_max(x: Tensor, window: int | None) -> Tensor:
    if window is None:
        return x.amax((2, 3), keepdim=True)
    return _spread(F.max_pool2d(x, window, ceil_mode=True), window, x)


def _window_mean(x: Tensor, window: int | None) -> Tensor:
    if window is None:
        return x.mean((2, 3), keepdim=True)
    return _spread(F.avg_pool2d(x, window, ceil_mode=True), window, x)


def _spread(pooled: Tensor, window: int, like: Tensor) -> Tensor:
    """One value per window (N, 1, h, w) to all positions of its window, cut to the size of `like`."""
    size = (pooled.shape[-2] * window, pooled.shape[-1] * window)
    # "nearest" rounds 41 * (1 / 41) to below 1; "nearest-exact" looks half a position further.
    return F.interpolate(pooled, size, mode="nearest-exact")[..., : like.shape[-2], : like.shape[-1]]


def attention_gate(scores: Tensor, a: Tensor | float, window: int | None) -> Tensor:
    """|W| A: attention weights times the number of positions in the window, so that their mean is 1.

    Args:
        scores: (N, 1, H, W) aggregated scores S in [0, 1].
        a: sharpness, any real number; only its square counts.
        window: side of the square windows, tiled without overlap and cut at the lower and right border; None for one
            window over the whole map.

    Returns:
        (N, 1, H, W), >= 0, mean 1 in every window; exactly 1 where a = 0.
    """
    if window is None or scores.shape[-2] % window or scores.shape[-1] % window:
        r = torch.exp((_window_max(scores, window) - scores).square() * -(a * a))
        return r / _window_mean(r, window)
    # Windows as channels: the same, in half the time.
    parts = F.pixel_unshuffle(scores, window)
    r = torch.exp((parts.amax(1, keepdim=True) - parts).square() * -(a * a))
    return F.pixel_shuffle(r / r.mean(1, keepdim=True), window)


@constant
def window_counts(height: int, width: int, window: int | None) -> Tensor:
    """Number of positions in the window of each position, (1, 1, H, W)."""
    if window is None:
        return torch.full((1, 1, height, width), float(height * width))
    rows, columns = (
        torch.tensor([min(window, size - i // window * window) for i in range(size)], dtype=torch.float32)
        for size in (height, width)
    )
    return (rows[:, None] * columns[None, :])[None, None]


def attention(scores: Tensor, a: Tensor | float, window: int | None) -> Tensor:
    """Attention weights A (N, 1, H, W), >= 0, sum 1 in every window; arguments as in `attention_gate`."""
    return attention_gate(scores, a, window) / window_counts(scores.shape[-2], scores.shape[-1], window).to(scores)


def lap_pool2d(features: Tensor, scores: Tensor, a: Tensor | float, window: int | None) -> Tensor:
    """Y_W = sum_{p in W} A(p) X(:, p): (N, C, ceil(H / window), ceil(W / window)), or (N, C, 1, 1) for one window."""
    gated = features * attention_gate(scores, a, window)
    return gated.mean((2, 3), keepdim=True) if window is None else F.avg_pool2d(gated, window, ceil_mode=True)


@dataclass(frozen=True)
class GateRecord:
    """What one block below the head saw.

    Attributes:
        concepts: concept maps I in [0, 1], (N, J, h, w).
        scores: their aggregate S, (N, 1, h, w).
        gate: |W| A, (N, 1, h, w).
    """

    concepts: Tensor
    scores: Tensor
    gate: Tensor


@dataclass
class Recording:
    """What the blocks of one forward pass saw, kept only while somebody asks for it.

    Attributes:
        all_concepts: whether the head block shall compute the maps of every class (training does).
        choose: from logits to the class indices (N,) to explain, where contributions are wanted.
        gates: of each level below the head, by name.
        features: last features before the head gate, (N, C, h, w).
        hidden: the head scorer's hidden layer, (N, hidden, h, w).
        head_gate: gate of the head, (N, 1, h, w).
        concepts: concept maps of every class, (N, K, h, w); None unless `all_concepts`.
        targets: the classes chosen, (N,).
        contributions: of the chosen class at the head, (N, 1, h, w), where the head is not linear.
    """

    all_concepts: bool = False
    choose: Callable[[Tensor], Tensor] | None = None
    gates: dict[str, GateRecord] = field(default_factory=dict)
    features: Tensor | None = None
    hidden: Tensor | None = None
    head_gate: Tensor | None = None
    concepts: Tensor | None = None
    targets: Tensor | None = None
    contributions: Tensor | None = None


# Per thread, so that two explanations at once never mix and the module keeps no state.
_thread = threading.local()


def wanted_recording() -> Recording | None:
    """The recording somebody around this forward pass asked for."""
    return getattr(_thread, "recording", None)


@contextmanager
def recording(*, all_concepts: bool = False, choose: Callable[[Tensor], Tensor] | None = None) -> Iterator[Recording]:
    """Collect what the blocks compute during the forward passes this thread makes inside."""
    record = Recording(all_concepts=all_concepts, choose=choose)
    outer = wanted_recording()
    _thread.recording = record
    try:
        yield record
    finally:
        _thread.recording = outer


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
    ) -> None:
        super().__init__()
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
        gate = attention_gate(scores, self.a, self.window).to(features.dtype)
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
    ) -> None:
        super().__init__()
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

        Reuses what the recorded forward pass computed, so that explaining costs next to nothing.
        """
        assert record.features is not None
        assert record.hidden is not None
        chosen = targets[:, None]
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
        gate = attention_gate(torch.sigmoid(highest), self.a, None).to(features.dtype)
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
