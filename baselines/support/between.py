"""What happens between the modules of a network: every torch function of a forward pass can be met and replaced.

Hooks see modules. Additions of shortcuts, products with gates and pooling by `mean` are functions; `Functions` meets
them through torch's function mode.

Known limits: what is compiled or scripted is not met. A function that works in place is replaced by one that does not,
which is another network where the code relies on the change; callers compare the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# What a rule gives where it does not apply.
UNCHANGED = object()
Rule = Callable[..., Any]

ADDITIONS = ("add", "add_", "__add__", "__iadd__", "__radd__")
PRODUCTS = ("mul", "mul_", "__mul__", "__imul__", "__rmul__")


class Functions(TorchFunctionMode):
    """Applies a rule to each torch function of the code inside, by its name.

    Args:
        rules: called as `rule(function, args, kwargs)`; gives the result, or UNCHANGED to leave the function as it is.
        other: called with the name and the result of each function left as it is.
    """

    def __init__(self, rules: Mapping[str, Rule], other: Callable[[str, Any], None] | None = None) -> None:
        super().__init__()
        self.rules, self.other = rules, other
        # Above zero inside a module that has a rule of its own.
        self.depth = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Torch's way in."""
        kwargs = kwargs or {}
        if self.depth:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        rule = self.rules.get(name)
        found = UNCHANGED if rule is None else rule(func, args, kwargs)
        if found is not UNCHANGED:
            return found
        result = func(*args, **kwargs)
        if self.other is not None:
            self.other(name, result)
        return result


def is_signal(value: object) -> bool:
    """Whether a gradient flows to `value`."""
    return isinstance(value, Tensor) and value.requires_grad


def signal_and_gate(args: tuple) -> tuple[Tensor, Any] | None:
    """Which factor of a product is the signal: the only one with a gradient, or the one that the other is spread over.

    None where both have the same size, so that none is plainly the gate.
    """
    first, second = args[:2]
    if is_signal(first) and is_signal(second):
        if first.numel() == second.numel():
            return None
        return (first, second) if first.numel() > second.numel() else (second, first)
    if is_signal(first):
        return first, second
    return (second, first) if is_signal(second) else None


def detached(value: Any) -> Any:
    """A tensor without its history; anything else as it is."""
    return value.detach() if isinstance(value, Tensor) else value


def same_logits(one: Tensor, other: Tensor) -> bool:
    """Whether two passes gave the same logits, up to rounding."""
    return one.shape == other.shape and bool(torch.allclose(one, other, rtol=1e-3, atol=1e-4))
