"""Cache small constant tensors, except those made under tracing or inference mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def constant(make: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Cache the tensors that a function makes from plain numbers.

    Tensors of a trace or of inference mode are not cached, since they cannot be used elsewhere.
    """
    cache: dict[object, Tensor] = {}

    @wraps(make)
    def make_once(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        if torch.compiler.is_compiling():
            return make(*args, **kwargs)
        key = args, tuple(kwargs.items())
        if key in cache:
            return cache[key]
        tensor = make(*args, **kwargs)
        if type(tensor) is Tensor and not tensor.is_inference():
            cache[key] = tensor
        return tensor

    return make_once
