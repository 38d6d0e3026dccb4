"""Measure the cost of LAP in thirty networks: time of a forward pass, explanation and training step, and peak memory.

Run by `python -m benchmarks.speed --zoo`. conftest.py selects networks and variants.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.speed.memory import peak_bytes, state_tensors
from benchmarks.speed.networks import Twins
from benchmarks.speed.pairs import QUICK_PAIRS, Case, PairTimer, Work, pairs_within
from benchmarks.speed.zoo import KINDS, MEMORY, Variant, workloads, zoo_twins

BUDGET = 4.0  # seconds for the pairs of one network and kind
FEWEST, MOST = 7, 60
STEPS = 2  # the first step creates the optimizer's state, the second starts with the gradients of the first


@pytest.mark.parametrize("kind", KINDS)
def test_cost(
    compare: PairTimer, benchmark: Any, variant: Variant, zoo_net: str, kind: str, device: str, quick: bool
) -> None:
    pair = zoo_twins(zoo_net, device, quick=quick)
    benchmark.extra_info.update(kind=kind, variant=variant.name)
    if kind in MEMORY:
        _measure_memory(benchmark, pair, zoo_net, kind, variant, device)
    else:
        _measure_time(compare, pair, zoo_net, kind, variant, quick)
    for model in (pair.plain, pair.lap):
        model.zero_grad(set_to_none=True)


def _measure_time(compare: PairTimer, pair: Twins, net: str, kind: str, variant: Variant, quick: bool) -> None:
    plain, lap = workloads(pair, kind, variant)
    pairs = QUICK_PAIRS if quick else pairs_within(BUDGET, compare.pair_seconds(plain, lap), FEWEST, MOST)
    case = Case(
        net=net,
        image_size=pair.images.shape[-1],
        images=len(pair.images),
        memory_format="channels_last",
        what=kind,
        reference="plain training step" if kind == "training step" else "plain forward",
        asked=None,
        pairs=pairs,
    )
    compare(case, plain, lap, warm_up=1 if quick else 0)  # pair_seconds has warmed it up


def _measure_memory(benchmark: Any, pair: Twins, net: str, kind: str, variant: Variant, device: str) -> None:
    plain, lap = workloads(pair, MEMORY[kind], variant)
    calls = STEPS if MEMORY[kind] == "training step" else 1

    def peak(work: Work, model: Any) -> int:
        resident = [*state_tensors(model), pair.images, pair.targets]
        if calls == 1:
            work()  # tensors that are created once and cached do not belong to a forward pass
        return peak_bytes(lambda: [work() for _ in range(calls)], resident, device)

    reference = peak(plain, pair.plain)
    pair.plain.zero_grad(set_to_none=True)
    measured = benchmark.pedantic(peak, args=(lap, pair.lap), rounds=1)
    benchmark.extra_info.update(
        net=net, image_size=pair.images.shape[-1], images=len(pair.images), reference_bytes=reference, bytes=measured
    )
