"""The networks that are timed: twins that differ in LAP alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.config.load import load_config, preset_path
from benchmarks.speed.networks import MEMORY_FORMATS, NETS, SHARPNESS, is_default_format, twins
from interp_core.lap.blocks import GateBlock, HeadBlock

pytestmark = pytest.mark.slow


class TestNets:
    def test_default_net_is_the_presets(self) -> None:
        config = load_config(preset_path("digits"))
        net = NETS[-1]
        assert net.model in config.models
        assert net.model.lap
        assert config.dataset.model_dump()["image_size"] == net.image_size
        assert (net.classes, net.batch) == (10, 64)
        assert is_default_format("channels_last") == config.recipe.channels_last != is_default_format("contiguous")

    @pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
    def test_twins_differ_in_lap_alone(self, memory_format: str) -> None:
        pair = twins(NETS[-1], memory_format, "cpu", images=2, size=32)
        plain = pair.plain.state_dict()
        assert all(torch.equal(value, plain[name]) for name, value in pair.lap.backbone.state_dict().items())
        assert not pair.plain.training
        assert not pair.lap.training
        blocks = [module for module in pair.lap.modules() if isinstance(module, GateBlock | HeadBlock)]
        assert [block.a.item() for block in blocks] == [SHARPNESS] * len(blocks)
        layout = MEMORY_FORMATS[memory_format]
        convolutions = [m for net in (pair.plain, pair.lap) for m in net.modules() if isinstance(m, nn.Conv2d)]
        assert pair.images.is_contiguous(memory_format=layout)
        assert all(module.weight.is_contiguous(memory_format=layout) for module in convolutions)

    def test_twins_are_fresh_and_the_same_each_time(self) -> None:
        first, second = (twins(NETS[-1], "contiguous", "cpu", images=2, size=32) for _ in range(2))
        assert torch.equal(first.images, second.images)
        with torch.no_grad():
            next(first.lap.parameters()).zero_()
        assert next(second.lap.parameters()).abs().sum() > 0
        assert next(first.plain.parameters()).abs().sum() > 0

    def test_small_images_for_a_quick_check_only(self) -> None:
        assert [net.size(quick=False) for net in NETS] == [net.image_size for net in NETS]
        assert max(net.size(quick=True) for net in NETS) == 64
