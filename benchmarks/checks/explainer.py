"""The contract of an explainer tried on a task of seconds, for `interp-bench check my_explainer.py`.

A small network with random weights, two images of digits in scenes, and a dozen things that the harness relies on. An
explainer of the user's own may raise whatever it likes: that becomes a finding with its reason.

Known limits: what holds on a small network with random weights need not hold on a large trained one; how good the maps
are is for the benchmark to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baselines import Cost, Explainer, explainers
from benchmarks.config.plugins import load_plugin, registered_by
from interp_core import LapModel
from interp_core.errors import InterpError

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
    """One thing that was tried.

    Attributes:
        name: what, with the explainer's name before it.
        ok: whether the contract is kept.
        detail: what was seen, or why not, in one line.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """All that was tried on a plugin.

    Attributes:
        findings: in the order in which they were tried.
    """

    findings: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether everything was kept."""
        return all(finding.ok for finding in self.findings)

    def lines(self) -> list[tuple[str, bool, str]]:
        """Name, verdict and detail of each finding."""
        return [(finding.name, finding.ok, finding.detail) for finding in self.findings]


class BrokenError(InterpError):
    """A part of the contract that an explainer does not keep."""


@dataclass(frozen=True)
class Task:
    """What explainers are tried on.

    Attributes:
        network: in evaluation mode, on `device`.
        images: (2, 3, SIZE, SIZE), normalised.
        targets: (2,).
        masks: (2, 1, SIZE, SIZE) bool.
        device: where all of it is.
    """

    network: nn.Module
    images: Tensor
    targets: Tensor
    masks: Tensor
    device: str

    def call(self, explainer: Explainer, **changes: Any) -> Tensor:
        """Maps, with some of network, images, targets, masks and seed changed."""
        return self.measure(explainer, **changes)[0]

    def measure(self, explainer: Explainer, **changes: Any) -> tuple[Tensor, Cost]:
        """Maps and cost, likewise."""
        given: dict[str, Any] = {
            "model": self.network,
            "images": self.images,
            "targets": self.targets,
            "masks": self.masks,
            "seed": 0,
        }
        return explainer.measure(**(given | changes))


def check_plugin(path: str) -> CheckReport:
    """Try every explainer that a plugin registers; never raises because of what the plugin does.

    Args:
        path: a Python file, or the dotted name of an installed module.
    """
    return CheckReport(tuple(check_file(path)))


def check_file(path: str) -> list[CheckResult]:
    """The findings of `check_plugin`."""
    found, failure = _tried("loads", lambda: _names(path))
    if found is None:
        return [failure]
    findings = [CheckResult("loads", True, ", ".join(found))]
    for name in found:
        findings += check_explainer(explainers[name])
    return findings


def check_explainer(cls: type[Explainer], device: str | None = None) -> list[CheckResult]:
    """Try one explainer with the defaults of its fields.

    Args:
        cls: the class.
        device: where; the best at hand by default.
    """
    explainer, failure = _tried(f"{cls.name}: defaults", cls)
    if explainer is None:
        return [failure]
    task, failure = _tried(f"{cls.name}: supported", lambda: _task_for(explainer, device))
    if task is None:
        return [failure]
    findings = [_tried(f"{cls.name}: supported", lambda: supported(explainer, task))[1]]
    maps, failure = _tried(f"{cls.name}: maps", lambda: task.measure(explainer))
    if maps is None:
        return [*findings, failure]
    for what, check in CHECKS.items():
        findings.append(_tried(f"{cls.name}: {what}", lambda check=check: check(explainer, task, *maps))[1])  # type: ignore[misc]
    return findings


def small_task(device: str | None = None, *, lap: bool = False) -> Task:
    """The network, or its twin with LAP, and the images.

    Args:
        device: where; the best at hand by default.
        lap: with LAP attached.
    """
    import timm

    from interp_core.datasets import DigitsInScenes
    from interp_core.lap import attach

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dataset = DigitsInScenes(image_size=SIZE, train=1, val=1, test=2, digit_scale=(0.6, 0.7), distractors=0)
    split = dataset.load("test")
    images = torch.from_numpy(split.images).float() / 255
    images = ((images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)).to(device)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_resnet", num_classes=CLASSES, **NETWORK).to(device)
        network.train()(images)  # so that the norms have statistics of their own
        network = attach(network) if lap else network
    targets, masks = torch.from_numpy(split.targets).to(device), torch.from_numpy(split.masks).to(device)
    return Task(network.eval(), images, targets, masks, device)


def _names(path: str) -> list[str]:
    names = registered_by(load_plugin(path), explainers)
    if not names:
        raise BrokenError("it registers no explainer: decorate a class with @explainers.register(name)")
    return names


def _tried(name: str, what: Callable[[], Any]) -> tuple[Any, CheckResult]:
    """What `what` gave, None if it raised, and the finding."""
    try:
        given = what()
    except BrokenError as error:
        return None, CheckResult(name, False, str(error))
    except Exception as error:  # whatever the explainer's own code raises
        said = " ".join(str(error).split())
        return None, CheckResult(
            name, False, said if isinstance(error, InterpError) else f"{type(error).__name__}: {said}"
        )
    return given, CheckResult(name, True, given if isinstance(given, str) else "")


def _task_for(explainer: Explainer, device: str | None) -> Task:
    """The plain network, or the one with LAP for an explainer that needs it."""
    task = small_task(device)
    reason = explainer.unsupported(task.network)
    if reason is None:
        return task
    task = small_task(device, lap=True)
    if explainer.unsupported(task.network) is None:
        return task
    raise BrokenError(f"it refuses the network, with LAP and without: {reason}")


def supported(explainer: Explainer, task: Task) -> str:
    """Which network it takes, and what it says against it."""
    caveat = explainer.caveat(task.network)
    return type(task.network).__name__ + (f"; it says: {caveat}" if caveat else "")


def shape(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """One map per image at its resolution, also where it is not square."""
    wide = torch.cat([task.images, task.images[..., : SIZE // 2]], -1)
    masks = torch.cat([task.masks, task.masks[..., : SIZE // 2]], -1)
    other = task.call(explainer, images=wide, masks=masks)
    if maps.shape != task.masks.shape or other.shape != masks.shape or maps.dtype != torch.float32:
        raise BrokenError(f"maps are {tuple(maps.shape)} {maps.dtype} and {tuple(other.shape)}")
    return f"{tuple(maps.shape)} float32; {tuple(other.shape)} of images that are not square"


def finite(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """No NaN, nothing infinite."""
    bad = int((~maps.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise BrokenError(f"{bad} of {len(maps)} maps have NaN or infinite values")
    return ""


def not_degenerate(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """No map that is the same everywhere."""
    flat = int((maps.flatten(1).amax(1) == maps.flatten(1).amin(1)).sum())
    if flat:
        raise BrokenError(f"{flat} of {len(maps)} maps have one value everywhere, which says nothing")
    return ""


def deterministic(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """The same seed gives the same maps."""
    apart = _apart(task.call(explainer), maps)
    limit = 0.0 if task.device == "cpu" else 1e-3
    if apart > limit:
        raise BrokenError(
            f"two calls with one seed differ by {apart:.1e} of the map's range: draw from the global generators of "
            "torch, numpy or random, which are seeded, or from one seeded by them"
        )
    return ""


def class_sensitive(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Another target gives another map."""
    apart = _apart(task.call(explainer, targets=(task.targets + 1) % CLASSES), maps)
    if apart < 1e-6:
        raise BrokenError("the map of another class is the same: it does not use `targets`")
    return f"maps of two classes differ by {apart:.0%} of their range"


def batch_invariant(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """The map of an image does not depend on the images beside it."""
    mate = task.images.flip(-1) * 2
    apart = _apart(task.call(explainer, images=torch.cat([mate[:1], task.images[1:]]))[1:], maps[1:])
    if apart > 1e-3:
        raise BrokenError(f"the map of an image changes by {apart:.1%} of its range when the image beside it changes")
    alone = {key: getattr(task, key)[1:] for key in ("images", "targets", "masks")}
    if _apart(task.call(explainer, **alone), maps[1:]) > 1e-3:
        return "its random numbers depend on the place in the batch, so that a run of other shards has other maps"
    return ""


def leaves_no_trace(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Hooks, flags, gradients, weights and attributes of the network are as before."""
    network = small_task(task.device, lap=isinstance(task.network, LapModel)).network.train()
    before = _state(network)
    task.call(explainer, model=network)
    changed = [what for what, value in _state(network).items() if value != before[what]]
    if changed:
        raise BrokenError(f"the call changed the network's {', '.join(changed)}")
    return ""


def on_its_device(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Maps are where the images are."""
    if maps.device.type != task.images.device.type:
        raise BrokenError(f"images on {task.images.device}, maps on {maps.device}")
    return f"tried on {maps.device.type}" + ("" if torch.cuda.is_available() else "; no GPU here")


def sign(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """Values have the sign that the class declares."""
    negative = float((maps < 0).float().mean())
    if not explainer.signed and negative:
        raise BrokenError(
            f"signed = False, but {negative:.0%} of the values are negative: set it to True, or take them off"
        )
    if explainer.signed and not negative:
        return "signed = True, but no value is negative here: set it to False if none ever is"
    return f"signed, {negative:.0%} of the values negative" if explainer.signed else "not signed"


def speed(explainer: Explainer, task: Task, maps: Tensor, cost: Cost) -> str:  # noqa: ARG001
    """What the first call took."""
    per_second, n = cost.images / max(cost.seconds, 1e-9), cost.images
    return (
        f"{per_second:.3g} images a second; {cost.forwards / n:g} forwards, {cost.backwards / n:g} backwards an image"
    )


CHECKS: dict[str, Callable[[Explainer, Task, Tensor, Cost], str]] = {
    "shape": shape,
    "finite": finite,
    "not degenerate": not_degenerate,
    "deterministic": deterministic,
    "class sensitive": class_sensitive,
    "batch invariant": batch_invariant,
    "leaves no trace": leaves_no_trace,
    "device": on_its_device,
    "sign": sign,
    "speed": speed,
}


def _apart(one: Tensor, other: Tensor) -> float:
    """Largest difference as a share of the range of `other`."""
    span = float(other.max() - other.min())
    gap = float((one - other).abs().nan_to_num(0.0).max())
    return gap / span if span > 0 else gap


def _state(network: nn.Module) -> dict[str, Any]:
    """What a call must leave as it was."""
    modules = list(network.modules())
    return {
        "training flags": [module.training for module in modules],
        "hooks": [list(getattr(module, name)) for module in modules for name in HOOKS],
        "requires_grad flags": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [parameter.grad is None for parameter in network.parameters()],
        "weights": [tensor.cpu().numpy().tobytes() for tensor in network.state_dict().values()],
        "attributes": [sorted(vars(module)) for module in modules],
    }
