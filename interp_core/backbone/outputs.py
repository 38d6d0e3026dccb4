"""Logits among what a network returns: a check that names the remedy, and a wrapper that selects them.

Networks return dicts, tuples, dataclasses or maps of a segmentation. The logits are then named by a key, an index or an
attribute, or computed by a function of what the network returns:

    select_output(network, "logits")
    select_output(network, 0)
    select_output(network, lambda result: result["out"].mean((2, 3)))

Limit: nothing tells logits from probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from interp_core.backbone.shells import Shell
from interp_core.errors import BackboneError, ContractError

# A key, an index, the name of an attribute, or a function of what the network returns.
Output = str | int | Callable[[Any], Tensor]

MAX_PARTS_LISTED = 8


class SelectedOutput(Shell):
    """A network of which only one part of the output is returned.

    Args:
        network: from images (N, C, H, W) to anything.
        output: which part of it are the logits (N, K).

    Attributes:
        network: the network itself.
        output: as given.
    """

    def __init__(self, network: nn.Module, output: Output) -> None:
        super().__init__(network)
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (N, K) of images (N, C, H, W)."""
        logits: Tensor = pick(self.network(images), self.output)
        return logits

    @property
    def pretrained_cfg(self) -> Any:
        """Description that timm gives of the network, such as the normalisation of its images."""
        return getattr(self.network, "pretrained_cfg", None)


def select_output(network: nn.Module, output: Output) -> nn.Module:
    """Return a network whose output is one part of another's.

    It shares all weights with the other one, so that it can be trained, explained and attached to in its place.

    Args:
        network: from images (N, C, H, W) to anything.
        output: a key, an index, the name of an attribute, or a function of what the network returns.

    Raises:
        ContractError: `output` is none of these.
    """
    if isinstance(output, bool) or not (isinstance(output, str | int) or callable(output)):
        raise ContractError(f"output must be a key, an index, an attribute or a function, got {output!r}")
    return SelectedOutput(network, output)


def pick(outputs: Any, output: Output) -> Any:
    """Return one part of what a network returned.

    Raises:
        ContractError: there is no such part.
    """
    if callable(output):
        return output(outputs)
    if isinstance(outputs, fx.Proxy):  # a module that torch.fx does not enter: pick when the graph runs
        return outputs.tracer.create_proxy("call_function", pick, (outputs, output), {})
    try:
        if isinstance(outputs, Mapping) or isinstance(output, int):
            return outputs[output]
        return getattr(outputs, output)
    except (KeyError, IndexError, AttributeError, TypeError):
        raise ContractError(f"output={output!r} is not there: the network returns {describe(outputs)}") from None


def check_logits_shape(outputs: object, name: str, images: int) -> Tensor:
    """Return what a network returned if it is logits (N, K).

    Args:
        outputs: what it returned.
        name: of the network, for messages.
        images: N.

    Raises:
        BackboneError: it is anything else, with the way to logits.
    """
    if isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == images and outputs.is_floating_point():
        return outputs
    raise BackboneError(f"{name} gives {describe(outputs)} where logits (N, K) are needed: {_remedy(outputs)}")


def describe(outputs: object) -> str:
    """Describe what a network returned: types, keys and shapes."""
    if isinstance(outputs, Tensor):
        kind = "" if outputs.is_floating_point() else f" {outputs.dtype}"
        return f"{tuple(outputs.shape)}{kind}"
    parts = parts_of(outputs)
    keys_text = ", ".join(f"{key!r}: {_form(piece)}" for key, piece in list(parts.items())[:MAX_PARTS_LISTED])
    suffix = ", ..." if len(parts) > MAX_PARTS_LISTED else ""
    return f"a {type(outputs).__name__} with {keys_text}{suffix}" if parts else f"a {type(outputs).__name__}"


def parts_of(outputs: object) -> dict[Any, object]:
    """List the parts of a dict, tuple, list, dataclass or namespace by key, index or name of attribute."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, tuple | list):
        return dict(enumerate(outputs))
    attributes = {} if isinstance(outputs, Tensor) else getattr(outputs, "__dict__", {})
    return {name: piece for name, piece in attributes.items() if not name.startswith("_")}


def _form(part: object) -> str:
    return str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__


def _remedy(outputs: object) -> str:
    """Return what to do about an output that is not logits."""
    if isinstance(outputs, Tensor):
        return f"{_reduction(outputs)}, or wrap the network in a module that returns logits"
    parts = parts_of(outputs)
    fitting = [key for key, piece in parts.items() if isinstance(piece, Tensor) and piece.ndim == 2]
    key = next(iter([*fitting, *parts]), None)
    if key is None:
        return "wrap the network in a module that returns logits"
    return (
        f"name the part that holds them, as in output={key!r} of attach and explainers, or wrap the network, as in "
        f"interp_core.select_output(network, {key!r})"
    )


def _reduction(outputs: Tensor) -> str:
    """Return the expression that turns a tensor of another shape into logits."""
    if outputs.ndim == 4 and min(outputs.shape[2:]) > 1:
        return "they are maps, as of a segmentation: pool them, as in output=lambda maps: maps.mean((2, 3))"
    if outputs.ndim > 2:
        return "flatten it, as in output=lambda values: values.flatten(1)"
    if outputs.ndim < 2:
        return "keep the axis of classes, as in output=lambda values: values.reshape(-1, 1) for one logit an image"
    if not outputs.is_floating_point():
        return "return the logits before they are rounded or compared"
    return "return one row for each image"
