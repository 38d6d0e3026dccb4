"""Match the tensors of a checkpoint to the names of a network, and say what does not fit.

Trainers wrap a state dict: in a dictionary with the optimizer beside it (`state_dict`, `model_state_dict`, `net`, an
EMA), and with a prefix before each name (`model.` of Lightning, `module.` of DataParallel, `_orig_mod.` of
torch.compile). The prefix is not guessed from a list: it is the one under which most tensors fit the network, by name
and shape. The same holds where the network has a prefix that the file lacks, such as `1.` in `Sequential(Normalize,
net)`.

Limit: tensors of a file that lie outside the prefix, such as a loss's or a teacher's, are ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

# Keys of a checkpoint under which a state dict lies; averaged weights first, as timm takes them.
WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "module", "net"),
    *("network", "backbone", "weights", "model_weights", "params_ema", "params", "student"),
)
PARALLEL = ("_orig_mod.", "module.")
SHOWN = 3  # names of each kind of misfit in a message
COUNTERS = ("num_batches_tracked", "total_ops", "total_params")  # of batch norms and of profilers; no weights


class Fit(NamedTuple):
    """Weights under the names of a network, and what does not fit.

    Attributes:
        weights: tensors that fit, by name in the network.
        missing: names of the network without a tensor.
        unexpected: names of tensors that the network does not have.
        misshapen: names with both shapes.
    """

    weights: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]]

    @property
    def is_complete(self) -> bool:
        """Whether every tensor has its place."""
        return not (self.missing or self.unexpected or self.misshapen)


def find_state_dict(content: Any) -> dict[str, Tensor] | None:
    """Return the tensors by name in the content of a checkpoint; None if there are none, or several such groups."""
    if not isinstance(content, Mapping):
        return None
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping) and (inner := find_state_dict(content[key])):
            return inner
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        return remove_parallel(tensors)
    groups = [inner for value in content.values() if (inner := find_state_dict(value))]
    return groups[0] if len(groups) == 1 else None


def remove_parallel(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of parallel and compiled networks before all names, in any order."""
    names = list(weights)
    while prefix := next((p for p in PARALLEL if all(name.startswith(p) for name in names)), None):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, weights.values(), strict=True))


def fit_to(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Fit:
    """Bring weights under the names of a network, by the prefix under which most of them fit.

    Args:
        weights: of a file.
        expected: state dict of the network.
    """
    removed, added = _best_prefixes(weights, expected)
    inside = {f"{added}{name[len(removed) :]}": value for name, value in weights.items() if name.startswith(removed)}
    fitting = {name: value for name, value in inside.items() if name in expected}
    missing = [name for name in expected if name not in inside and not name.endswith(COUNTERS)]
    unexpected = [name for name in inside if name not in expected and not name.endswith(COUNTERS)]
    misshapen = [
        (name, tuple(value.shape), tuple(expected[name].shape))
        for name, value in fitting.items()
        if value.shape != expected[name].shape
    ]
    return Fit(fitting, missing, unexpected, misshapen)


def describe_misfit(fit: Fit, total: int) -> str:
    """Say in one line how many tensors of a network do not fit, and name the first few of each kind.

    Args:
        fit: incomplete.
        total: number of tensors of the network.
    """
    shapes = [f"{name}: {_shape(file)} in the file, {_shape(own)} in the network" for name, file, own in fit.misshapen]
    parts = [
        _listed("without a tensor in the file", fit.missing),
        _listed("unknown to the network", fit.unexpected),
        _listed("of another shape", shapes),
    ]
    fitting = len(fit.weights) - len(fit.misshapen)
    return f"{fitting} of {total} tensors fit; " + "; ".join(part for part in parts if part)


def _best_prefixes(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[str, str]:
    """Return the prefix to remove from the names of a file, and the one to add to them."""
    votes: Counter[tuple[str, str]] = Counter()
    for name, value in weights.items():
        for prefix, suffix in _splits(name):
            if suffix in expected:
                votes[prefix, ""] += 1 + (expected[suffix].shape == value.shape)
    for name, value in expected.items():
        for prefix, suffix in _splits(name):
            if prefix and suffix in weights:
                votes["", prefix] += 1 + (weights[suffix].shape == value.shape)
    # No prefix wins a tie, then a shorter one.
    return max(votes, key=lambda pair: (votes[pair], -len(pair[0]) - len(pair[1])), default=("", ""))


def _splits(name: str) -> Iterable[tuple[str, str]]:
    """Yield a name divided behind each of its dots, the whole name first."""
    parts = name.split(".")
    for count in range(len(parts)):
        prefix = ".".join(parts[:count])
        yield f"{prefix}." if prefix else "", ".".join(parts[count:])


def _listed(what: str, names: list[str]) -> str:
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})" if names else ""


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
