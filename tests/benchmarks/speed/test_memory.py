"""Peak memory, against sizes counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.speed.memory import highest_sum, peak_bytes, state_tensors, storage_bytes

pytestmark = pytest.mark.slow

N = 64 * 1024  # elements; so many that small change does not matter


class TestMemory:
    def test_shared_storage_counts_once(self) -> None:
        x = torch.zeros(10)
        assert storage_bytes([x, x[2:], x.view(2, 5), torch.zeros(3)]) == 52
        net = nn.BatchNorm1d(4)
        assert storage_bytes(state_tensors(net)) == 4 * 4 * 4 + 8  # weight, bias, mean, variance, number of batches

    @pytest.mark.parametrize(
        ("changes", "most"), [([], 0), ([(0, -5)], 0), ([(2, -3), (1, 3), (3, 2)], 3), ([(0, 2), (1, 2), (2, -4)], 4)]
    )
    def test_highest_sum(self, changes: list[tuple[int, int]], most: int) -> None:
        assert highest_sum(changes) == most

    def test_two_maps_at_once_in_a_forward_pass(self) -> None:
        # Each layer holds its input and its output; the first input was there before.
        net = nn.Sequential(nn.Linear(256, 512, bias=False), nn.ReLU(), nn.Linear(512, 64, bias=False))
        images = torch.zeros(128, 256)
        weights = 4 * (256 * 512 + 512 * 64)
        with torch.no_grad():
            peak = peak_bytes(lambda: net(images), [*state_tensors(net), images], "cpu")
        assert peak == weights + 4 * 128 * 256 + 2 * 4 * 128 * 512

    def test_what_is_changed_in_place_takes_nothing(self) -> None:
        x = torch.zeros(N)
        assert peak_bytes(lambda: x.add_(1), [x], "cpu") == pytest.approx(4 * N, abs=64)

    def test_what_backward_needs_is_held(self) -> None:
        # exp keeps its result: three of them, and behind the last the gradient that flows back.
        x = torch.zeros(N, requires_grad=True)

        def work() -> None:
            x.exp().exp().exp().sum().backward()

        peak = peak_bytes(work, [x], "cpu")
        assert peak == pytest.approx(4 * N * 5, rel=1e-3)

    def test_a_training_step_holds_gradients_and_the_optimizers_state(self) -> None:
        net = nn.Linear(256, 256, bias=False)
        optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
        x = torch.zeros(1, 256)

        def step() -> None:
            loss = net(x).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        def steps() -> None:
            step()
            step()

        peak = peak_bytes(steps, [*state_tensors(net), x], "cpu")
        weight_bytes = 4 * 256 * 256
        assert peak >= 4 * weight_bytes  # weights, gradient, two moments
        assert peak <= 7 * weight_bytes  # and what the update itself needs

    def test_a_gpu_is_asked_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("wait"))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: order.append("reset"))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 130)
        assert peak_bytes(lambda: order.append("work"), [torch.zeros(5)], "cuda:0") == 20 + 30
        assert order == ["wait", "reset", "work", "wait"]
