"""`python -m benchmarks.studies.coverage`: attach LAP to every network of timm and write down what happens.

One line a network in results/coverage/timm.csv: attached or not and why, where LAP went in, how far the logits moved
(0 is bit-equal), what was added, the map's own grid. Weights are random; those an initialisation sets to a constant are
drawn too, since a branch that starts at zero would hide a change. Networks already in the file are not done again.

Limits: FLOPs are those torch counts, of convolutions and matrix products; the network is tried on images of `PROBE`
pixels where it takes them and its own are larger, and logits are compared on images of `SIDE` pixels where it takes
those, to be done in an hour or two; networks that take large images only are compared on one image, others on two.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, versions
from interp_core.backbone.trace import noise_image
from interp_core.deploy.zoo import FAMILIES
from interp_core.errors import InterpError, one_line
from interp_core.lap.attach import LapModel, attach, detach

OUTPUT = Path("results/coverage/timm.csv")
PROBE, SIDE, SEED = 224, 96, 0
# What is asked: all convolutional networks, and so many of the others.
ASKED = {"convolutional": (628, 628), "hybrid": (256, 270)}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What came of one network.

    Attributes:
        name: timm's.
        family: timm's module.
        kind: "convolutional" or "hybrid", see `interp_core.deploy.zoo`.
        attached: whether LAP could be attached.
        why: the error where not.
        sites: module and input pixels per position of each gate, and the last feature map.
        layout: of the last feature map.
        linear_head: whether contributions need no gradient.
        grid: rows x columns of the map for an image of `image_size`.
        image_size: of the probe.
        compared_at: side of the images on which logits were compared.
        change_eval: largest difference of logits in evaluation mode, relative to the largest logit.
        change_train: the same in training mode.
        conserved: gap between contributions + bias and logit, relative to the largest logit.
        restored: whether `detach` gave back the same module, with its modules, parameters and hooks.
        parameters: of the network.
        parameters_added: by LAP.
        gflops: of the network, one image.
        flops_added: by LAP, as a share.
        seconds: it took.
        commit: of the code that wrote the line.
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


def examine(name: str, family: str, kind: str) -> Line:
    """Build one network with random weights, attach, compare, detach."""
    begin = time.perf_counter()
    found: dict[str, Any] = {"name": name, "family": family, "kind": kind}
    torch.manual_seed(SEED)
    model = timm.create_model(name).eval()
    stir(model)
    found["parameters"] = sum(p.numel() for p in model.parameters())
    before = _identity(model)
    try:
        lap = _attach(model)
    except InterpError as error:
        found["why"] = str(error)
    else:
        found |= {"attached": True, **_where(lap), **_compare(lap)}
        found["restored"] = detach(lap) is model and _identity(model) == before
    found["seconds"] = round(time.perf_counter() - begin, 1)
    return Line(**found)


def _attach(model: nn.Module) -> LapModel:
    """Probed with an image no larger than `PROBE` where the network takes that."""
    if max(model.pretrained_cfg["input_size"]) > PROBE + 32:  # type: ignore[index, operator]
        try:
            return attach(model, image_size=PROBE)
        except InterpError:
            pass
    return attach(model)


@torch.no_grad()
def stir(model: nn.Module) -> None:
    """Draw every parameter of several elements that its initialisation left constant; sizes stay those of a start."""
    generator = torch.Generator().manual_seed(SEED)
    for parameter in model.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.1 * noise.to(parameter))


def _where(lap: LapModel) -> dict[str, Any]:
    info = lap.info
    last = info.feature_module or "last features"
    sites = [f"{site.module}@{site.reduction}" for site in lap.sites] + [f"{last}@{info.reduction}"]
    layout = info.partition.layout
    return {
        "sites": " ".join(part.replace(" ", "-") for part in sites),
        "layout": layout.order + (f"+{layout.prefix}" if layout.prefix else ""),
        "linear_head": info.linear_head,
        "grid": "x".join(map(str, info.grid)),
        "image_size": "x".join(map(str, info.size)),
        "parameters_added": sum(p.numel() for p in (*lap.gates.parameters(), *lap.head.parameters())),
    }


def _compare(lap: LapModel) -> dict[str, Any]:
    """Logits of both, in both modes, on images as small as the network takes."""
    try:
        if SIDE // lap.info.reduction < 2:
            raise ValueError("too few cells")
        images = _images(lap, (SIDE, SIDE))
        plain, flops = _logits(lap.backbone, images)
    except Exception:  # whatever a network raises that takes one size only
        images = _images(lap, lap.info.size)
        plain, flops = _logits(lap.backbone, images)
    logits, more = _logits(lap, images)
    found = {
        "compared_at": images.shape[-1],
        "change_eval": _change(plain, logits),
        "conserved": lap.explain(images[:1]).gap,
        "gflops": flops / len(images) / 1e9,
        "flops_added": more / flops - 1,
    }
    lap.train()
    plain, _ = _logits(lap.backbone, images)
    logits, _ = _logits(lap, images)
    lap.eval()
    return found | {"change_train": _change(plain, logits)}


def _images(lap: LapModel, size: tuple[int, int]) -> Tensor:
    one = noise_image(lap.backbone, lap.info.in_channels, size)
    return one if size[0] > PROBE + 32 else torch.cat([one, one.flip(3)])


class _Flops(TorchDispatchMode):
    """Counts floating point operations; torch's own counter also follows modules, which DLA's confuse."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=given)
        return given


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor) -> tuple[Tensor, int]:
    """Logits and FLOPs; the same random numbers every time, for dropout."""
    torch.manual_seed(SEED)
    with _Flops() as counter:
        given = model(images)
    return given[0] if isinstance(given, tuple) else given, counter.total


def _change(before: Tensor, after: Tensor) -> float:
    return float((after - before).abs().max() / before.abs().max().clamp(min=1e-30))


def _identity(model: nn.Module) -> tuple[Any, ...]:
    modules = [(name, id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
               for name, module in model.named_modules()]  # fmt: skip
    return modules, [(name, id(p), p.requires_grad) for name, p in model.named_parameters()], list(model.state_dict())


def networks(wanted: Sequence[str] = ()) -> Iterator[tuple[str, str, str]]:
    """Name, timm's module and kind of every network, or of those wanted."""
    for kind, families in FAMILIES.items():
        for family in families:
            for name in timm.list_models(module=family, exclude_filters="lap_*"):
                if not wanted or name in wanted:
                    yield name, family, kind


def sweep(wanted: Iterable[tuple[str, str, str]], path: Path) -> pd.DataFrame:
    """Examine what is not in the file yet, adding a line at a time."""
    lines: list[dict[Any, Any]] = pd.read_csv(path, dtype={"commit": str}).to_dict("records") if path.is_file() else []
    done = {line["name"] for line in lines}
    commit = (git_state(Path(__file__)) or {}).get("commit", "")[:7]
    todo = [network for network in wanted if network[0] not in done]
    for name, family, kind in track(todo, description="Attaching", disable=not sys.stdout.isatty()):
        try:
            line = examine(name, family, kind)
        except Exception as error:  # a network that cannot even be built or run stands in the table too
            reason = one_line(error, limit=200, with_type=True)
            line = Line(name=name, family=family, kind=kind, why=reason)
        lines.append(asdict(replace(line, commit=commit)))
        _write(lines, path)
        gc.collect()
    return pd.DataFrame(lines, columns=[field.name for field in fields(Line)])


def _write(lines: list[dict[Any, Any]], path: Path) -> None:
    table = pd.DataFrame(lines).sort_values(["kind", "family", "name"])
    write_atomically(path, table.to_csv(index=False, float_format="%.3g"))


def summary(table: pd.DataFrame) -> str:
    """How many were attached, and the largest change."""
    parts = []
    for kind, group in table.groupby("kind"):
        fine = group[group.attached.astype(bool)]
        changes = fine[["change_eval", "change_train"]]
        wanted, of = ASKED[str(kind)]
        exact = int((changes == 0).all(axis=1).sum())
        parameters, flops = (fine.parameters_added / fine.parameters).median(), fine.flops_added.median()
        parts.append(
            f"{kind}: {len(fine)} of {len(group)} attached (asked {wanted} of {of}), {exact} bit-equal in both "
            f"modes, largest change {changes.max().max():.2g}, largest gap {fine.conserved.max():.2g}, "
            f"medians of parameters added {parameters:.2%} and of FLOPs {flops:.2%}"
        )
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.coverage", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks of timm; all convolutional and hybrid ones by default")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", module="timm")
    table = sweep(networks(given.names), given.output)
    facts = {
        "command": "python -m benchmarks.studies.coverage",
        "seed": SEED,
        "git": git_state(Path(__file__)),
        **versions(),
    }
    write_atomically(given.output.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")
    print(summary(table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
