"""What external explainers cost with their default parameters, counted in explanations of LAP of the same images.

They explain the plain twin, which is what one would have without LAP. Timed is the method alone, as in the cost column
of a run: not its checks, and nothing that is done once in a process.
"""

from __future__ import annotations

import pytest

from baselines import explainers
from baselines.guard import preserved, seeded
from benchmarks.speed.conftest import Compare
from benchmarks.speed.nets import NETS, SEED, Net, twins

# Others take seconds to minutes for an image: one round.
PAIRS = {"grad_cam": 15, "integrated_gradients": 3}
REPEATS = 5
CORNER = 32
EXTERNAL = [name for name, cls in explainers.items() if cls.kind == "external" and not cls.needs_masks]


@pytest.mark.parametrize("name", EXTERNAL)
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_explainer(compare: Compare, net: Net, name: str, device: str, quick: bool) -> None:
    memory_format = "channels_last"
    pair = twins(net, memory_format, device, images=net.few, size=net.size(quick))
    explainer = explainers[name]()
    # A small image is enough to have everything loaded and compiled.
    explainer(pair.plain, pair.images[..., :CORNER, :CORNER], pair.targets)

    def lap() -> None:
        pair.lap.explain(pair.images, pair.targets)

    def external() -> None:
        explainer.explain(pair.plain, pair.images, pair.targets)

    with preserved(pair.plain), seeded(SEED):
        compare(
            net,
            memory_format,
            (explainer.title, "LAP explain"),
            net.few,
            (lap, external),
            pairs=PAIRS.get(name, 1),
            warm_up=0,
            repeats=REPEATS,
        )
