"""What LAP costs in thirty networks: time of a forward pass, an explanation and a training step, and peak memory.

Run by `python -m benchmarks.speed --zoo`; which networks and variants is decided in conftest.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.speed.compare import QUICK_PAIRS, Compare
from benchmarks.speed.memory import peak_bytes, state
from benchmarks.speed.networks import Twins
from benchmarks.speed.pairs import Case, Work, pairs_within
from benchmarks.speed.zoo import KINDS, MEMORY, Variant, works, zoo_twins

BUDGET = 4.0  # seconds for the pairs of a network and kind
FEWEST, MOST = 7, 60
STEPS = 2  # the first step makes the optimizer's state, the second has gradients of the first still there


@pytest.mark.parametrize("kind", KINDS)
def test_cost(
    compare: Compare, benchmark: Any, variant: Variant, zoo_net: str, kind: str, device: str, quick: bool
) -> None:
    pair = zoo_twins(zoo_net, device, quick=quick)
    benchmark.extra_info.update(kind=kind, variant=variant.name)
    if kind in MEMORY:
        _memory(benchmark, pair, zoo_net, kind, variant, device)
    else:
        _time(compare, pair, zoo_net, kind, variant, quick)
    for model in (pair.plain, pair.lap):
        model.zero_grad(set_to_none=True)


def _time(compare: Compare, pair: Twins, net: str, kind: str, variant: Variant, quick: bool) -> None:
    plain, lap = works(pair, kind, variant)
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
    compare(case, plain, lap, warm_up=1 if quick else 0)  # the pairs that were timed first have warmed it up


def _memory(benchmark: Any, pair: Twins, net: str, kind: str, variant: Variant, device: str) -> None:
    plain, lap = works(pair, MEMORY[kind], variant)
    times = STEPS if MEMORY[kind] == "training step" else 1

    def peak(work: Work, model: Any) -> int:
        resident = [*state(model), pair.images, pair.targets]
        if times == 1:
            work()  # what is made once and kept is no part of a forward pass
        return peak_bytes(lambda: [work() for _ in range(times)], resident, device)

    reference = peak(plain, pair.plain)
    pair.plain.zero_grad(set_to_none=True)
    measured = benchmark.pedantic(peak, args=(lap, pair.lap), rounds=1)
    benchmark.extra_info.update(
        net=net, image_size=pair.images.shape[-1], images=len(pair.images), reference_bytes=reference, bytes=measured
    )
