"""Rules for the torch functions between the modules of a network.

Hooks see modules only. Additions of shortcuts, products with gates and pooling by `mean` are functions. `FunctionRules`
intercepts them through torch's function mode.

Known limits: compiled or scripted code is not intercepted. A function that works in place is replaced by one that does
not, which gives another network where the code relies on the change. Callers compare the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Returned by a rule that does not apply.
UNCHANGED = object()
Rule = Callable[..., Any]

ADDITIONS = ("add", "add_", "__add__", "__iadd__", "__radd__")
SUBTRACTIONS = ("sub", "sub_", "__sub__", "__isub__", "__rsub__", "rsub", "subtract")
QUOTIENTS = ("div", "div_", "__truediv__", "__itruediv__", "true_divide", "divide")
PRODUCTS = ("mul", "mul_", "__mul__", "__imul__", "__rmul__")


class FunctionRules(TorchFunctionMode):
    """Context in which a rule is applied to each torch function, by its name.

    Args:
        rules: called as `rule(function, args, kwargs)`; return the result, or UNCHANGED to call the function itself.
        other: called with the name and the result of each function without a rule.
    """

    def __init__(self, rules: Mapping[str, Rule], other: Callable[[str, Any], None] | None = None) -> None:
        super().__init__()
        self.rules, self.other = rules, other
        # Above zero inside a module that has its own rule.
        self.depth = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function or its rule."""
        kwargs = kwargs or {}
        if self.depth:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        rule = self.rules.get(name)
        result = UNCHANGED if rule is None else rule(func, args, kwargs)
        if result is not UNCHANGED:
            return result
        result = func(*args, **kwargs)
        if self.other is not None:
            self.other(name, result)
        return result


def is_signal(value: object) -> bool:
    """Return whether a gradient flows to `value`."""
    return isinstance(value, Tensor) and value.requires_grad


def signal_and_gate(args: tuple[Any, ...]) -> tuple[Tensor, Any] | None:
    """Return the factors of a product as signal and gate.

    The signal is the only factor with a gradient, or the larger one, over which the other is broadcast. None where both
    have the same size, so that neither is clearly the gate.
    """
    first, second = args[:2]
    if is_signal(first) and is_signal(second):
        if first.numel() == second.numel():
            return None
        return (first, second) if first.numel() > second.numel() else (second, first)
    if is_signal(first):
        return first, second
    return (second, first) if is_signal(second) else None


def detach(value: Any) -> Any:
    """Detach a tensor from the graph; return anything else unchanged."""
    return value.detach() if isinstance(value, Tensor) else value


def same_logits(first: Tensor, second: Tensor) -> bool:
    """Return whether two passes gave the same logits, up to rounding."""
    return first.shape == second.shape and bool(torch.allclose(first, second, rtol=1e-3, atol=1e-4))
