"""Time external explainers with their default parameters, relative to one explanation by LAP of the same images.

They explain the plain twin, which is the network one would have without LAP. Only the method is timed, as in the cost
column of a run: neither its checks nor work that is done once per process.
"""

from __future__ import annotations

import pytest

from baselines import explainers
from baselines.support.guard import preserve, seed_generators
from benchmarks.speed.networks import NETS, SEED, Net, twins
from benchmarks.speed.pairs import Case, PairTimer

MEMORY_FORMAT = "channels_last"
# The others take many seconds for an image: one round.
PAIRS = {"grad_cam": 15, "integrated_gradients": 3}
REPEATS = 5
CORNER = 32
EXTERNAL = [name for name, cls in explainers.items() if cls.kind == "external" and not cls.needs_masks]


@pytest.mark.parametrize("name", EXTERNAL)
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_explainer(compare: PairTimer, net: Net, name: str, device: str, quick: bool) -> None:
    pair = twins(net, MEMORY_FORMAT, device, images=net.few, size=net.size(quick))
    explainer = explainers[name]()
    reason = explainer.refusal(pair.plain)
    if reason is not None:
        pytest.skip(reason)
    # A small image is enough to load and compile everything.
    explainer(pair.plain, pair.images[..., :CORNER, :CORNER], pair.targets)
    case = Case(
        net=net.name,
        image_size=pair.images.shape[-1],
        images=len(pair.images),
        memory_format=MEMORY_FORMAT,
        what=explainer.title,
        reference="LAP explain",
        asked=None,
        pairs=PAIRS.get(name, 1),
    )
    with preserve(pair.plain), seed_generators(SEED):
        compare(
            case,
            lambda: pair.lap.explain(pair.images, pair.targets),
            lambda: explainer.explain_in_batches(pair.plain, pair.images, pair.targets),
            # Explainers may inspect the network here and cache the outcome for the next call.
            prepare=lambda: explainer.refusal(pair.plain),
            warm_up=0,
            repeats=REPEATS,
        )
