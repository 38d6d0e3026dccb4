"""Attach LAP to every network of timm and record the outcome.

Command: `interp-bench study coverage`. One row per network in results/coverage/timm.csv: whether LAP was attached and
why not, where it went in, how far the logits moved (0 is bit-equal), what was added, and the grid of the map. Weights
are random. Parameters that an initialisation sets to a constant are drawn too, since a branch that starts at zero would
hide a change. A stopped study continues with the networks that are not in the file.

Known limits: FLOPs are those that torch counts, of convolutions and matrix products. To finish within an hour or two,
the network is traced on images of `PROBE` pixels if it takes them and its own images are larger, and logits are
compared on images of `SIDE` pixels if it takes those. Networks that take only large images are compared on one image,
the others on two.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.store.provenance import short_commit, write_provenance
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable
from interp_core.backbone.trace import noise_image
from interp_core.deploy.zoo import FAMILIES
from interp_core.errors import InterpError, one_line
from interp_core.lap.attach import LapModel, attach, detach

OUTPUT = Path("results/coverage/timm.csv")
COMMAND = "interp-bench study coverage"
PROBE, SIDE, SEED = 224, 96, 0
# Networks to attach, and networks in the family.
TARGETS = {"convolutional": (628, 628), "hybrid": (256, 270)}


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """Outcome of attaching LAP to one network.

    Attributes:
        name: timm's name.
        family: timm's module.
        kind: "convolutional" or "hybrid", see `interp_core.deploy.zoo`.
        attached: whether LAP could be attached.
        why: the error if not.
        sites: module and input pixels per position of each gate and of the last feature map.
        layout: of the last feature map.
        linear_head: whether contributions need no gradient.
        grid: rows x columns of the map for an image of `image_size`.
        image_size: of the traced image.
        compared_at: side of the images on which logits were compared.
        change_eval: largest difference of logits in evaluation mode, relative to the largest logit.
        change_train: the same in training mode.
        conserved: gap between contributions + bias and logit, relative to the largest logit.
        restored: whether `detach` returned the same module, with its modules, parameters and hooks.
        parameters: parameters of the network.
        parameters_added: parameters of LAP.
        gflops: 1e9 operations of the network on one image.
        flops_added: operations of LAP as a share of the network's.
        seconds: time of the examination.
        commit: of the code that wrote the row.
    """

    name: str
    family: str
    kind: str
    attached: bool = False
    why: str = ""
    sites: str = ""
    layout: str = ""
    linear_head: bool | None = None
    grid: str = ""
    image_size: str = ""
    compared_at: int | None = None
    change_eval: float | None = None
    change_train: float | None = None
    conserved: float | None = None
    restored: bool | None = None
    parameters: int | None = None
    parameters_added: int | None = None
    gflops: float | None = None
    flops_added: float | None = None
    seconds: float = 0.0
    commit: str = ""


def examine(name: str, family: str, kind: str) -> NetworkRow:
    """Build one network with random weights, attach LAP, compare both, and detach it."""
    begin = time.perf_counter()
    row: dict[str, Any] = {"name": name, "family": family, "kind": kind}
    torch.manual_seed(SEED)
    model = timm.create_model(name).eval()
    perturb_constants(model)
    row["parameters"] = sum(p.numel() for p in model.parameters())
    before = _identity(model)
    try:
        lap = _attach(model)
    except InterpError as error:
        row["why"] = str(error)
    else:
        row |= {"attached": True, **_describe(lap), **_compare(lap)}
        row["restored"] = detach(lap) is model and _identity(model) == before
    row["seconds"] = round(time.perf_counter() - begin, 1)
    return NetworkRow(**row)


def _attach(model: nn.Module) -> LapModel:
    """Attach LAP, tracing the network with an image of at most `PROBE` pixels if it takes that."""
    if max(model.pretrained_cfg["input_size"]) > PROBE + 32:  # type: ignore[index, operator]
        try:
            return attach(model, image_size=PROBE)
        except InterpError:
            pass
    return attach(model)


@torch.no_grad()
def perturb_constants(model: nn.Module) -> None:
    """Add noise to every parameter of several elements that its initialisation left constant."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.1 * noise.to(parameter))


def _describe(lap: LapModel) -> dict[str, Any]:
    """Return where LAP was attached and the parameters it added."""
    info = lap.info
    last = info.feature_module or "last features"
    sites = [f"{site.module}@{site.reduction}" for site in lap.sites] + [f"{last}@{info.reduction}"]
    layout = info.partition.layout
    return {
        "sites": " ".join(site.replace(" ", "-") for site in sites),
        "layout": layout.order + (f"+{layout.prefix}" if layout.prefix else ""),
        "linear_head": info.linear_head,
        "grid": "x".join(map(str, info.grid)),
        "image_size": "x".join(map(str, info.size)),
        "parameters_added": sum(p.numel() for p in (*lap.gates.parameters(), *lap.head.parameters())),
    }


def _compare(lap: LapModel) -> dict[str, Any]:
    """Compare the logits of both, in both modes, on images as small as the network takes."""
    try:
        if SIDE // lap.info.reduction < 2:
            raise ValueError("too few cells")
        images = _images(lap, (SIDE, SIDE))
        plain, flops = _logits(lap.backbone, images)
    except Exception:  # networks that take one size only raise many kinds of errors
        images = _images(lap, lap.info.size)
        plain, flops = _logits(lap.backbone, images)
    logits, lap_flops = _logits(lap, images)
    comparison = {
        "compared_at": images.shape[-1],
        "change_eval": _relative_change(plain, logits),
        "conserved": lap.explain(images[:1]).gap,
        "gflops": flops / len(images) / 1e9,
        "flops_added": lap_flops / flops - 1,
    }
    lap.train()
    plain, _ = _logits(lap.backbone, images)
    logits, _ = _logits(lap, images)
    lap.eval()
    return comparison | {"change_train": _relative_change(plain, logits)}


def _images(lap: LapModel, size: tuple[int, int]) -> Tensor:
    image = noise_image(lap.backbone, lap.info.in_channels, size)
    return image if size[0] > PROBE + 32 else torch.cat([image, image.flip(3)])


class _FlopCounter(TorchDispatchMode):
    """Counter of floating point operations.

    torch's own counter also follows modules, and fails on those of DLA.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=output)
        return output


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor) -> tuple[Tensor, int]:
    """Return logits and FLOPs, with the same random numbers every time for dropout."""
    torch.manual_seed(SEED)
    with _FlopCounter() as counter:
        output = model(images)
    return output[0] if isinstance(output, tuple) else output, counter.total


def _relative_change(before: Tensor, after: Tensor) -> float:
    return float((after - before).abs().max() / before.abs().max().clamp(min=1e-30))


def _identity(model: nn.Module) -> tuple[Any, ...]:
    modules = [(name, id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
               for name, module in model.named_modules()]  # fmt: skip
    return modules, [(name, id(p), p.requires_grad) for name, p in model.named_parameters()], list(model.state_dict())


def list_networks(names: Sequence[str] = ()) -> Iterator[tuple[str, str, str]]:
    """Yield name, timm's module and kind of every network, or of those named."""
    for kind, families in FAMILIES.items():
        for family in families:
            for name in timm.list_models(module=family, exclude_filters="lap_*"):
                if not names or name in names:
                    yield name, family, kind


def sweep(networks: Iterable[tuple[str, str, str]], path: Path) -> pd.DataFrame:
    """Examine the networks that are not in the file, adding one row at a time.

    Args:
        networks: name, timm's module and kind of each.
        path: of the table.
    """
    table = ResumableTable(path, ("name",), sort=("kind", "family", "name"), float_format="%.3g")
    commit = short_commit()
    missing = [network for network in networks if (network[0],) not in table]
    for name, family, kind in track(missing, "Attaching"):
        try:
            row = examine(name, family, kind)
        except Exception as error:  # a network that cannot be built or run is also a row of the table
            row = NetworkRow(name=name, family=family, kind=kind, why=one_line(error, limit=200, with_type=True))
        table.add(asdict(replace(row, commit=commit)))
        gc.collect()
    return table.frame.reindex(columns=[field.name for field in fields(NetworkRow)])


def summarise(table: pd.DataFrame) -> str:
    """Format counts, largest changes and costs, one line for each kind of network."""
    lines = []
    for kind, group in table.groupby("kind"):
        attached = group[group.attached.astype(bool)]
        changes = attached[["change_eval", "change_train"]]
        target, family_size = TARGETS[str(kind)]
        exact = int((changes == 0).all(axis=1).sum())
        parameters, flops = (attached.parameters_added / attached.parameters).median(), attached.flops_added.median()
        lines.append(
            f"{kind}: {len(attached)} of {len(group)} attached (asked {target} of {family_size}), {exact} bit-equal in "
            f"both modes, largest change {changes.max().max():.2g}, largest gap {attached.conserved.max():.2g}, "
            f"medians of parameters added {parameters:.2%} and of FLOPs {flops:.2%}"
        )
    return "\n".join(lines)


def run(names: Sequence[str], output: Path = OUTPUT) -> list[Path]:
    """Examine networks and write the table and its provenance.

    Args:
        names: networks of timm; empty for all convolutional and hybrid ones.
        output: of the table; its provenance lies beside it.
    """
    warnings.filterwarnings("ignore", module="timm")
    table = sweep(list_networks(names), output)
    print(summarise(table))
    return [output, write_provenance(output.with_suffix(".json"), {}, command=COMMAND, seed=SEED)]
