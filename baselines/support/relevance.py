"""Relevance through any network: zennit's rules for modules, matching rules for the functions between them.

A module with a rule of zennit is left to it. Functions outside such modules get rules through
`baselines.support.between`. Sums and averages share relevance in proportion to their parts. In a product the signal
gets everything. Activations, and functions that only move values, pass relevance on unchanged. Any other function that
relevance flows through is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from baselines.support.between import (
    ADDITIONS,
    PRODUCTS,
    QUOTIENTS,
    SUBTRACTIONS,
    UNCHANGED,
    FunctionRules,
    detach,
    is_signal,
    signal_and_gate,
)
from baselines.support.modules import is_activation
from baselines.support.norms import CONVOLUTIONS, NORMS
from interp_core.backbone.trace import Trace

STABILISER = 1e-6
AVERAGES = ("mean", "avg_pool2d", "adaptive_avg_pool2d")
ACTIVATIONS = (
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish", "hardtanh", "softplus"),
    *("tanh", "sigmoid", "hardsigmoid"),
)
# Functions that move, choose or copy values: their derivative passes relevance on unchanged.
MOVES = frozenset((
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "movedim",
    "__get__", "contiguous", "clone", "to", "float", "double", "type_as", "view_as", "cat", "concat", "stack",
    "split", "chunk", "unbind", "narrow", "__getitem__", "expand", "pad", "flip", "roll", "max_pool2d",
    "_max_pool2d", "fn", "adaptive_max_pool2d", "pixel_shuffle", "pixel_unshuffle", "dropout", "dropout2d",
    "detach",
))  # fmt: skip


class _ProportionalShare(torch.autograd.Function):
    """Linear function whose relevance goes to its parts in proportion: R_x = x * L^T(R / L(x))."""

    @staticmethod
    def forward(ctx: Any, linear: Any, *parts: Tensor) -> Any:
        ctx.linear = linear
        ctx.save_for_backward(*parts)
        return linear(*parts)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        parts = [part.detach().requires_grad_() for part in ctx.saved_tensors]
        with torch.enable_grad():
            output = ctx.linear(*parts)
        size = output.detach()
        ratio = relevance / (size + STABILISER * torch.where(size < 0, -1.0, 1.0))
        shares = torch.autograd.grad(output, parts, ratio)
        return (None, *(part.detach() * share for part, share in zip(parts, shares, strict=True)))


class _PassThrough(torch.autograd.Function):
    """Given value whose relevance goes to the signal unchanged."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004
        return value.clone()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return relevance, None


class BetweenRules(FunctionRules):
    """Rules for the functions of a forward pass outside modules with a rule.

    Attributes:
        unruled: names of the functions without a rule that relevance went through, complete after the backward pass.
    """

    def __init__(self) -> None:
        rules = dict.fromkeys(ADDITIONS, self._sum) | dict.fromkeys(PRODUCTS, self._product)
        rules |= dict.fromkeys(SUBTRACTIONS, self._difference) | dict.fromkeys(QUOTIENTS, self._quotient)
        rules |= dict.fromkeys(AVERAGES, self._average) | dict.fromkeys(ACTIVATIONS, self._activation)
        super().__init__(rules, self._watch)
        self.unruled: set[str] = set()

    def _sum(self, _function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        signals = [part for part in args[:2] if is_signal(part)]
        if kwargs or not signals:
            return UNCHANGED
        if len(signals) == 2:
            return _ProportionalShare.apply(torch.add, *signals)
        return _PassThrough.apply(signals[0], detach(args[0]) + detach(args[1]))

    def _difference(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Pass relevance on where a constant is taken away, as by a normalisation."""
        if kwargs or not is_signal(args[0]) or is_signal(args[1]):
            return UNCHANGED
        return _PassThrough.apply(args[0], function(args[0].detach().clone(), detach(args[1])))

    def _quotient(self, _function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs or not is_signal(args[0]) or is_signal(args[1]):
            return UNCHANGED
        return _PassThrough.apply(args[0], args[0].detach() / detach(args[1]))

    def _product(self, _function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        factors = None if kwargs else signal_and_gate(args)
        if factors is None:
            return UNCHANGED
        signal, gate = factors
        return _PassThrough.apply(signal, signal.detach() * detach(gate))

    def _average(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_signal(args[0]):
            return UNCHANGED
        return _ProportionalShare.apply(lambda part: function(part, *args[1:], **kwargs), args[0])

    def _activation(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args or not is_signal(args[0]):
            return UNCHANGED
        return _PassThrough.apply(args[0], function(args[0].detach().clone(), *args[1:], **kwargs))

    def _watch(self, name: str, result: Any) -> None:
        if name in MOVES:
            return
        for value in result if isinstance(result, tuple | list) else (result,):
            if is_signal(value):
                value.register_hook(lambda relevance: self.unruled.add(name) if bool(relevance.any()) else None)


def has_rule(module: nn.Module) -> bool:
    """Return whether zennit has a rule for the module that matches what it computes."""
    return has_weights_rule(module) or isinstance(module, NORMS) or is_activation(module)


def has_weights_rule(module: nn.Module) -> bool:
    """Return whether the module is a convolution, dense layer or average whose rule reads its input.

    Subclasses that compute their weights in the forward pass, such as weight standardisation, do not count.
    """
    pools = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
    return type(module).__name__ in CONVOLUTIONS or is_dense(module) or type(module) in pools


def is_dense(module: nn.Module) -> bool:
    """Return whether the module is torch's dense layer, or timm's, which differs under a trace only."""
    return isinstance(module, nn.Linear) and type(module).__name__ == "Linear"


def zennit_hooks(model: nn.Module, *, keep_dense_bias: bool) -> dict[nn.Module, Any]:
    """Choose the zennit hook of each module: flat for the first convolution, z+ for the others, epsilon for dense."""
    from zennit import rules as rule

    hooks: dict[nn.Module, Any] = {}
    convolutions = [module for module in model.modules() if type(module).__name__ in CONVOLUTIONS]
    for module in filter(has_rule, model.modules()):
        if module in convolutions:
            hooks[module] = (rule.Flat if module is convolutions[0] else rule.ZPlus)(zero_params="bias")
        elif is_dense(module):
            hooks[module] = rule.Epsilon(zero_params=None if keep_dense_bias else "bias")
        else:
            hooks[module] = rule.Norm() if has_weights_rule(module) else rule.Pass()
    return hooks


@contextmanager
def register_rules(model: nn.Module, between: BetweenRules, *, keep_dense_bias: bool) -> Iterator[None]:
    """Register zennit's hooks, and switch `between` off inside the modules that have one."""

    def enter(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        between.depth += 1

    def leave(_module: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        between.depth -= 1

    handles: list[Any] = []
    for module, hook in zennit_hooks(model, keep_dense_bias=keep_dense_bias).items():
        handles += [module.register_forward_pre_hook(enter), hook.register(module)]
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def propagate_relevance(
    model: nn.Module, images: Tensor, targets: Tensor, *, keep_dense_bias: bool = True
) -> tuple[Tensor, Tensor, set[str]]:
    """Propagate the targets' logits back to the pixels.

    Args:
        model: a copy, its parameters without gradient, batch norms merged.
        images: (N, C, H, W).
        targets: (N,).
        keep_dense_bias: let biases of dense layers keep their share.

    Returns:
        Relevance (N, C, H, W), logits (N, K), and the functions without a rule it went through.
    """
    between, leaf = BetweenRules(), images.detach().clone().requires_grad_()
    with torch.enable_grad(), register_rules(model, between, keep_dense_bias=keep_dense_bias):
        with between:
            logits = model(leaf)
        start = torch.zeros_like(logits).scatter(1, targets[:, None], logits.detach().gather(1, targets[:, None]))
        relevance = torch.autograd.grad(logits, leaf, start)[0]
    return relevance.detach(), logits.detach(), between.unruled


def modules_called_twice(trace: Trace) -> list[str]:
    """List the modules with a rule that reads their input and more than one call."""
    return [name for name, calls in trace.calls.items() if calls > 1 and has_weights_rule(trace.modules[name])]
