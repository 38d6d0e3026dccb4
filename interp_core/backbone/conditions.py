"""Trace networks that decide by the sizes of their images, as by `assert x.ndim == 4` or `if x.shape[1] == 1`.

torch.fx follows no condition on a value that it traces. The sizes of a probe answer conditions that depend on sizes
and types alone. The answer becomes a node of the graph, which fails where it differs later. A condition on the values
of pixels cannot be followed, since the graph would take the way of the probe for every image.

Limit: a size that is used as a plain number, as in `range(x.shape[0])` or `len(x)`, cannot be followed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from interp_core.errors import ContractError

TRACING = threading.Lock()  # torch.fx replaces nn.Module.__call__ while it traces

# Attributes, methods and functions of a tensor whose results do not depend on its values.
_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad", "layout")
_METHODS = ("size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_complex", "is_contiguous")
_FUNCTIONS = (torch.numel, torch.is_tensor, torch.is_floating_point, torch.is_complex)


def expect_condition(value: Any, expected: bool) -> None:
    """Check that a condition has the answer that it had when the network was traced.

    Raises:
        ContractError: it has not, so that the graph of the network is not that of these images.
    """
    if bool(value) is not expected:
        raise ContractError(
            "the network takes another way for images of this size or number than when LAP was attached: attach it "
            "with image_size=..., or keep such conditions out of its forward"
        )


class ConditionTracer(fx.Tracer):
    """Tracer that enters expanded modules only, and answers conditions on sizes.

    Other threads call their modules undisturbed.

    Args:
        expanded: names of the modules to enter.
        images: (1, C, H, W), whose sizes answer conditions.
    """

    def __init__(self, expanded: frozenset[str], images: Tensor) -> None:
        super().__init__()
        self._expanded, self._thread, self._images = expanded, threading.get_ident(), images
        self._values: dict[fx.Node, Any] = {}
        self._evaluating = False

    @property
    def _is_tracing(self) -> bool:
        return threading.get_ident() == self._thread and not self._evaluating

    def is_leaf_module(self, _module: nn.Module, name: str) -> bool:
        """Return whether a module is one node of the graph."""
        return name not in self._expanded

    def call_module(
        self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace the call of a module."""
        if not self._is_tracing:
            return forward(*args, **kwargs)
        return super().call_module(module, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Trace the access to a parameter."""
        if not self._is_tracing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Answer a condition on sizes, and record the answer in the graph."""
        if not _depends_on_sizes_only(obj.node, self._value_of):
            raise fx.proxy.TraceError("an if, an assert or a loop depends on the values of the images")
        answer = bool(self._value_of(obj.node))
        self.create_node("call_function", expect_condition, (obj.node, answer), {})
        return answer

    def _value_of(self, node: fx.Node) -> Any:
        """Compute the value of a node for the probe."""
        if node not in self._values:
            args = fx.node.map_arg(node.args, self._value_of)
            kwargs = fx.node.map_arg(node.kwargs, self._value_of)
            self._evaluating = True
            try:
                with torch.no_grad():
                    self._values[node] = self._run(node, args, kwargs)
            finally:
                self._evaluating = False
        return self._values[node]

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "placeholder":
            return node.args[0] if node.args else self._images.clone()
        interpreter = fx.Interpreter(self.root, graph=self.graph)
        return getattr(interpreter, node.op)(node.target, args, kwargs)


def _depends_on_sizes_only(node: fx.Node, value_of: Callable[[fx.Node], Any]) -> bool:
    """Return whether the value of a node depends on the sizes and types of tensors alone."""
    if isinstance(value_of(node), Tensor):
        return False
    return all(
        _reads_sizes(node) if isinstance(value_of(source), Tensor) else _depends_on_sizes_only(source, value_of)
        for source in node.all_input_nodes
    )


def _reads_sizes(node: fx.Node) -> bool:
    """Return whether a node reads the size or type of a tensor."""
    if node.op == "call_method":
        return node.target in _METHODS
    if node.op != "call_function":
        return False
    is_attribute = node.target is getattr and len(node.args) > 1 and node.args[1] in _ATTRIBUTES
    return is_attribute or node.target in _FUNCTIONS
