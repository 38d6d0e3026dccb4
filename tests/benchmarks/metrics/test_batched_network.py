from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.cases import net_case
from torch import Tensor

from benchmarks.metrics import Batch
from benchmarks.metrics.batched_network import single_threaded_pool
from benchmarks.metrics.passes import Passes
from benchmarks.metrics.removal import pixel_order

pytestmark = pytest.mark.slow


def passes(case: Batch, batch_size: int | None = None) -> Passes:
    assert case.model is not None
    return Passes(case.model, case.images, case.targets, batch_size=batch_size)


class TestWorkers:
    """Batches that run at once, one thread each."""

    @pytest.fixture(autouse=True)
    def _threads(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(3)
        yield
        torch.set_num_threads(before)

    def test_any_number_gives_the_same(self) -> None:
        case = net_case(5)
        order, outputs = pixel_order(case.maps), []
        for workers in (1, 2, 3):
            shared = passes(case, 7)
            shared.network.workers = workers
            outputs.append(shared.run_removals(order, range(0, 3073, 128), "blur", by_channel=True))
            assert shared.forwards == 5 * 23 + 5 + 5
        for output in outputs[1:]:
            assert np.allclose(output.logits, outputs[0].logits, atol=1e-5)
            assert np.array_equal(output.hits, outputs[0].hits)

    def test_as_many_as_threads_for_a_graph_and_one_for_the_network_itself(self) -> None:
        case = net_case(2)
        assert passes(case).network.workers == 3
        unchanged = passes(case).network
        unchanged.module = unchanged.model
        assert unchanged.workers == 1

    def test_the_callers_threads_stay(self) -> None:
        passes(net_case(2)).run_removals(pixel_order(net_case(2).maps), range(0, 1024, 16), "mean")
        assert torch.get_num_threads() == 3
        assert list(single_threaded_pool(3).map(lambda _: torch.get_num_threads(), range(9))) == [1] * 9

    def test_an_error_in_one_reaches_the_caller(self) -> None:
        def broken(rows: slice, versions: slice) -> Tensor:
            raise ValueError(f"row {rows.start}")

        with pytest.raises(ValueError, match="row 0"):
            passes(net_case(2)).run("broken", 4, broken)
