"""What external explainers cost with their default parameters, counted in explanations of LAP of the same images.

They explain the plain twin, which is what one would have without LAP. Timed is the method alone, as in the cost column
of a run: not its checks, and nothing that is done once in a process.
"""

from __future__ import annotations

import pytest

from baselines import explainers
from baselines.support.guard import preserved, seeded
from benchmarks.speed.compare import Compare
from benchmarks.speed.networks import NETS, SEED, Net, twins
from benchmarks.speed.pairs import Case

MEMORY_FORMAT = "channels_last"
# All others take many seconds for an image: one round.
PAIRS = {"grad_cam": 15, "integrated_gradients": 3}
REPEATS = 5
CORNER = 32
EXTERNAL = [name for name, cls in explainers.items() if cls.kind == "external" and not cls.needs_masks]


@pytest.mark.parametrize("name", EXTERNAL)
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_explainer(compare: Compare, net: Net, name: str, device: str, quick: bool) -> None:
    pair = twins(net, MEMORY_FORMAT, device, images=net.few, size=net.size(quick))
    explainer = explainers[name]()
    reason = explainer.unsupported(pair.plain)
    if reason is not None:
        pytest.skip(reason)
    # A small image is enough to have everything loaded and compiled.
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
    with preserved(pair.plain), seeded(SEED):
        compare(
            case,
            lambda: pair.lap.explain(pair.images, pair.targets),
            lambda: explainer.explain(pair.plain, pair.images, pair.targets),
            # Explainers may look at the network here and keep what they find for the next call.
            prepare=lambda: explainer.unsupported(pair.plain),
            warm_up=0,
            repeats=REPEATS,
        )
