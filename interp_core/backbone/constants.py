"""Small constant tensors made once; not those of a trace or of inference mode, which nobody else could use."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def constant(make: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`functools.cache` for a function that makes a tensor from plain numbers."""
    made: dict[object, Tensor] = {}

    @wraps(make)
    def give(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        if torch.compiler.is_compiling():
            return make(*args, **kwargs)
        key = args, tuple(kwargs.items())
        if key in made:
            return made[key]
        found = make(*args, **kwargs)
        if type(found) is Tensor and not found.is_inference():
            made[key] = found
        return found

    return give
