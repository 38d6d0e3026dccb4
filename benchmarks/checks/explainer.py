"""Check a user's explainer against the contract, for `interp-bench check my_explainer.py`.

The task is a small network with random weights and two images of digits in scenes. A dozen checks cover what the
benchmark relies on. Any exception that the explainer raises becomes a failed check with its reason.

Known limits: a check that passes on a small random network may fail on a large trained one. The quality of the maps is
not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from baselines import Cost, Explainer, explainers
from benchmarks.config.plugins import load_plugin, names_from
from interp_core import LapModel, attach
from interp_core.errors import InterpError, one_line

SIZE, CLASSES = 32, 10
NETWORK: dict[str, Any] = {
    "layers": [2, 2, 0, 0],
    "channels": [32, 96, 96, 96],
    "avg_down": False,
    "zero_init_last": False,
}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Attributes:
        name: name of the check, after that of the explainer.
        ok: whether it passed.
        detail: measured value or reason of the failure, in one line.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """Results of all checks of a plugin.

    Attributes:
        results: in the order of the checks.
    """

    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return all(result.ok for result in self.results)

    def lines(self) -> list[tuple[str, bool, str]]:
        """Return name, verdict and detail of each check."""
        return [(result.name, result.ok, result.detail) for result in self.results]


class BrokenError(InterpError):
    """An explainer breaks a part of the contract."""


@dataclass(frozen=True)
class Task:
    """Network and images that explainers are checked on.

    Attributes:
        network: in evaluation mode, on `device`.
        images: (2, 3, SIZE, SIZE), normalised.
        targets: (2,).
        masks: (2, 1, SIZE, SIZE) bool.
        device: of all tensors.
    """

    network: nn.Module
    images: Tensor
    targets: Tensor
    masks: Tensor
    device: str

    def call(self, explainer: Explainer, **changes: Any) -> Tensor:
        """Return the maps of `measure`."""
        return self.measure(explainer, **changes)[0]

    def measure(self, explainer: Explainer, **changes: Any) -> tuple[Tensor, Cost]:
        """Run an explainer on the task and return maps and cost.

        Args:
            explainer: the explainer.
            changes: arguments of `Explainer.measure` that replace those of the task.
        """
        arguments: dict[str, Any] = {
            "model": self.network,
            "images": self.images,
            "targets": self.targets,
            "masks": self.masks,
            "seed": 0,
        }
        return explainer.measure(**(arguments | changes))


def check_plugin(path: str) -> CheckReport:
    """Check every explainer that a plugin registers.

    No exception of the plugin passes through.

    Args:
        path: a Python file, or the dotted name of an installed module.
    """
    return CheckReport(tuple(check_file(path)))


def check_file(path: str) -> list[CheckResult]:
    """Return the results of `check_plugin` as a list."""
    names, loading = _attempt("loads", lambda: _names(path))
    if names is None:
        return [loading]
    results = [CheckResult("loads", True, ", ".join(names))]
    for name in names:
        results += check_explainer(explainers[name])
    return results


def check_explainer(cls: type[Explainer], device: str | None = None) -> list[CheckResult]:
    """Check one explainer with the defaults of its fields.

    Later checks are skipped where the explainer cannot be built or gives no maps.

    Args:
        cls: the class.
        device: where to run; the best available by default.
    """
    explainer, result = _attempt(f"{cls.name}: defaults", cls)
    if explainer is None:
        return [result]
    task, result = _attempt(f"{cls.name}: supported", lambda: _task_for(explainer, device))
    if task is None:
        return [result]
    results = [_attempt(f"{cls.name}: supported", lambda: check_supported(explainer, task))[1]]
    measured, result = _attempt(f"{cls.name}: maps", lambda: task.measure(explainer))
    if measured is None:
        return [*results, result]
    for name, check in CHECKS.items():
        results.append(_attempt(f"{cls.name}: {name}", partial(check, explainer, task, *measured))[1])
    return results


def small_task(device: str | None = None, *, lap: bool = False) -> Task:
    """Build the task of all checks.

    Args:
        device: where to run; the best available by default.
        lap: whether to attach LAP to the network.
    """
    import timm

    from interp_core.datasets import DigitsInScenes

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dataset = DigitsInScenes(image_size=SIZE, train=1, val=1, test=2, digit_scale=(0.6, 0.7), distractors=0)
    split = dataset.load("test")
    images = torch.from_numpy(split.images).float() / 255
    images = ((images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)).to(device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_resnet", num_classes=CLASSES, **NETWORK).to(device)
        network.train()(images)  # sets the running statistics of batch norms
        network = attach(network) if lap else network
    targets, masks = torch.from_numpy(split.targets).to(device), torch.from_numpy(split.masks).to(device)
    return Task(network.eval(), images, targets, masks, device)


def _names(path: str) -> list[str]:
    """Load a plugin and return the names of its explainers."""
    names = names_from(load_plugin(path), explainers)
    if not names:
        raise BrokenError("it registers no explainer: decorate a class with @explainers.register(name)")
    return names


def _attempt(name: str, call: Callable[[], Any]) -> tuple[Any, CheckResult]:
    """Return the value of a call, or None if it raises, and the result of the check."""
    try:
        value = call()
    except BrokenError as error:
        return None, CheckResult(name, False, str(error))
    except Exception as error:  # a user's code may raise anything
        return None, CheckResult(name, False, one_line(error, with_type=not isinstance(error, InterpError)))
    return value, CheckResult(name, True, value if isinstance(value, str) else "")


def _task_for(explainer: Explainer, device: str | None) -> Task:
    """Return the task with the plain network, or with LAP for an explainer that needs it."""
    task = small_task(device)
    reason = explainer.refusal(task.network)
    if reason is None:
        return task
    task = small_task(device, lap=True)
    if explainer.refusal(task.network) is None:
        return task
    raise BrokenError(f"it refuses the network, with LAP and without: {reason}")


def check_supported(explainer: Explainer, task: Task) -> str:
    """Return the type of the network, and the caveat of the explainer."""
    caveat = explainer.caveat(task.network)
    return type(task.network).__name__ + (f"; caveat: {caveat}" if caveat else "")


def check_shape(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that there is one map per image at its resolution, also for images that are not square."""
    wide = torch.cat([task.images, task.images[..., : SIZE // 2]], -1)
    masks = torch.cat([task.masks, task.masks[..., : SIZE // 2]], -1)
    wide_maps = task.call(explainer, images=wide, masks=masks)
    if maps.shape != task.masks.shape or wide_maps.shape != masks.shape or maps.dtype != torch.float32:
        raise BrokenError(f"maps are {tuple(maps.shape)} {maps.dtype} and {tuple(wide_maps.shape)}")
    return f"{tuple(maps.shape)} float32; {tuple(wide_maps.shape)} of images that are not square"


def check_finite(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that no map has NaN or infinite values."""
    count = int((~maps.isfinite()).flatten(1).any(1).sum())
    if count:
        raise BrokenError(f"{count} of {len(maps)} maps have NaN or infinite values")
    return ""


def check_not_degenerate(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that no map is constant."""
    count = int((maps.flatten(1).amax(1) == maps.flatten(1).amin(1)).sum())
    if count:
        raise BrokenError(f"{count} of {len(maps)} maps have one value everywhere, which says nothing about the image")
    return ""


def check_deterministic(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that the same seed gives the same maps."""
    difference = _difference(task.call(explainer), maps)
    limit = 0.0 if task.device == "cpu" else 1e-3
    if difference > limit:
        raise BrokenError(
            f"two calls with one seed differ by {difference:.1e} of the map's range: draw from the global generators "
            "of torch, numpy or random, which are seeded, or from one seeded by them"
        )
    return ""


def check_class_sensitive(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that another target gives another map."""
    difference = _difference(task.call(explainer, targets=(task.targets + 1) % CLASSES), maps)
    if difference < 1e-6:
        raise BrokenError("the map of another class is the same: it does not use `targets`")
    return f"maps of two classes differ by {difference:.0%} of their range"


def check_batch_invariant(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that the map of an image does not depend on the other images of the batch."""
    neighbour = task.images[:1].flip(-1) * 2
    difference = _difference(task.call(explainer, images=torch.cat([neighbour, task.images[1:]]))[1:], maps[1:])
    if difference > 1e-3:
        raise BrokenError(
            f"the map of an image changes by {difference:.1%} of its range when the image beside it changes"
        )
    alone = {key: getattr(task, key)[1:] for key in ("images", "targets", "masks")}
    if _difference(task.call(explainer, **alone), maps[1:]) > 1e-3:
        return "its random numbers depend on the place in the batch: other shards give other maps"
    return ""


def check_leaves_no_trace(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that hooks, flags, gradients, weights and attributes of the network stay as they are."""
    network = small_task(task.device, lap=isinstance(task.network, LapModel)).network.train()
    before = _state(network)
    task.call(explainer, model=network)
    changed = [part for part, value in _state(network).items() if value != before[part]]
    if changed:
        raise BrokenError(f"the call changed the network's {', '.join(changed)}")
    return ""


def check_device(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that maps are on the device of the images."""
    if maps.device.type != task.images.device.type:
        raise BrokenError(f"images on {task.images.device}, maps on {maps.device}")
    return f"checked on {maps.device.type}" + ("" if torch.cuda.is_available() else "; no GPU here")


def check_sign(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Check that values have the sign that the class declares."""
    negative = float((maps < 0).float().mean())
    if not explainer.signed and negative:
        raise BrokenError(
            f"signed = False, but {negative:.0%} of the values are negative: set it to True, or clip them"
        )
    if explainer.signed and not negative:
        return "signed = True, but no value is negative here: set it to False if none ever is"
    return f"signed, {negative:.0%} of the values negative" if explainer.signed else "not signed"


def measure_speed(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Return speed and passes of the first call."""
    per_second, n = cost.images / max(cost.seconds, 1e-9), cost.images
    return (
        f"{per_second:.3g} images a second; {cost.forwards / n:g} forwards, {cost.backwards / n:g} backwards an image"
    )


CHECKS: dict[str, Callable[[Explainer, Task, Tensor, Cost], str]] = {
    "shape": check_shape,
    "finite": check_finite,
    "not degenerate": check_not_degenerate,
    "deterministic": check_deterministic,
    "class sensitive": check_class_sensitive,
    "batch invariant": check_batch_invariant,
    "leaves no trace": check_leaves_no_trace,
    "device": check_device,
    "sign": check_sign,
    "speed": measure_speed,
}


def _difference(first: Tensor, second: Tensor) -> float:
    """Return the largest difference as a share of the range of the second maps."""
    span = float(second.max() - second.min())
    gap = float((first - second).abs().nan_to_num(0.0).max())
    return gap / span if span > 0 else gap


def _state(network: nn.Module) -> dict[str, Any]:
    """Return everything that a call must not change."""
    modules = list(network.modules())
    return {
        "training flags": [module.training for module in modules],
        "hooks": [list(getattr(module, name)) for module in modules for name in HOOKS],
        "requires_grad flags": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [parameter.grad is None for parameter in network.parameters()],
        "weights": [tensor.cpu().numpy().tobytes() for tensor in network.state_dict().values()],
        "attributes": [sorted(vars(module)) for module in modules],
    }
