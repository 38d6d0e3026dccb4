"""The networks of the zoo, their twins, and the work that is timed."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from benchmarks.speed.table import SpeedError
from benchmarks.speed.zoo import (
    KINDS,
    LARGEST,
    MEMORY,
    QUICK_ZOO,
    TIMED,
    VARIANTS,
    ZOO,
    Variant,
    batch_size,
    image_side,
    select_nets,
    select_variants,
    settle_batch_norms,
    workloads,
    zoo_twins,
)
from benchmarks.speed.zoo_figure import STYLES
from benchmarks.speed.zoo_rows import LIMITS
from benchmarks.speed.zoo_table import KIND_TITLES
from interp_core.errors import UnknownNameError
from interp_core.lap.blocks import GateBlock, HeadBlock

pytestmark = pytest.mark.slow


class TestList:
    def test_thirty_different_networks_with_weights_on_the_hub(self) -> None:
        assert len(ZOO) == len(set(ZOO)) == 30
        for name in ZOO:
            config = get_pretrained_cfg(name)
            assert config is not None, name
            assert config.hf_hub_id
            assert config.num_classes == 1000

    def test_quick_ones_are_other_networks(self) -> None:
        assert all(timm.is_model(name) for name in QUICK_ZOO)
        assert not set(QUICK_ZOO) & set(ZOO)

    def test_choice_of_networks(self) -> None:
        assert select_nets([], quick=False) == ZOO
        assert select_nets(None, quick=True) == QUICK_ZOO
        assert select_nets(["resnet18"], quick=True) == ("resnet18",)
        with pytest.raises(UnknownNameError, match="did you mean"):
            select_nets(["resnet1"], quick=False)

    def test_choice_of_variants(self) -> None:
        assert select_variants([], "cpu") == (VARIANTS["float32"],)
        assert [(v.half, v.backend) for v in select_variants(None, "cuda:1")] == [(True, None), (True, "inductor")]
        assert select_variants(["bfloat16"], "cpu") == (VARIANTS["bfloat16"],)
        with pytest.raises(UnknownNameError, match="float32"):
            select_variants(["float23"], "cpu")

    def test_images_are_the_networks_own_but_not_too_large(self) -> None:
        assert image_side({"input_size": (3, 192, 192)}, quick=False) == 192
        assert image_side({"input_size": (3, 299, 299)}, quick=False) == LARGEST
        assert image_side({"input_size": (3, 192, 192)}, quick=True) == 64
        assert (batch_size("cpu", quick=False), batch_size("cuda", quick=False)) == (8, 64)

    def test_every_kind_is_asked_something_and_drawn(self) -> None:
        assert tuple(LIMITS) == tuple(KIND_TITLES) == tuple(STYLES)
        assert set(KINDS) == set(LIMITS) == {*TIMED, *MEMORY}
        assert [LIMITS[kind].median for kind in TIMED] == [1.03, 1.05, 1.08]
        assert LIMITS["forward"].worst == 1.08


class TestTwins:
    def test_lap_is_at_work_and_all_else_equal(self) -> None:
        pair = zoo_twins(QUICK_ZOO[0], "cpu", quick=True)
        plain = pair.plain.state_dict()
        assert all(torch.equal(value, plain[name]) for name, value in pair.lap.backbone.state_dict().items())
        blocks = [module for module in pair.lap.modules() if isinstance(module, GateBlock | HeadBlock)]
        assert blocks
        assert all(block.a.item() == 2.0 for block in blocks)
        assert pair.images.is_contiguous(memory_format=torch.channels_last)
        assert zoo_twins(QUICK_ZOO[0], "cpu", quick=True) is pair

    def test_settled_statistics_are_the_batchs_own(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = 5 + 3 * torch.randn(4, 2, 8, 8, generator=generator)
        norm = nn.BatchNorm2d(2, momentum=0.25)
        net = nn.Sequential(norm, nn.Dropout()).eval()
        settle_batch_norms(net, images)
        torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, images.var((0, 2, 3)))
        assert norm.momentum == 0.25
        assert not any(module.training for module in net.modules())

    @pytest.mark.parametrize("variant", [VARIANTS["float32"], VARIANTS["bfloat16"], Variant("traced", backend="eager")])
    @pytest.mark.parametrize("kind", TIMED)
    def test_work_is_that_of_the_networks(self, kind: str, variant: Variant) -> None:
        pair = zoo_twins(QUICK_ZOO[0], "cpu", quick=True)
        plain, lap = workloads(pair, kind, variant)
        before = [parameter.detach().clone() for parameter in pair.plain.parameters()]
        plain_output: Any = plain()
        lap_output: Any = lap()
        has_changed = any(not torch.equal(a, b) for a, b in zip(before, pair.plain.parameters(), strict=True))
        assert has_changed == pair.plain.training == pair.lap.training == (kind == "training step")
        if kind == "training step":
            zoo_twins.cache_clear()
            return
        with torch.no_grad(), variant.autocast("cpu"):
            expected = pair.lap(pair.images)
        logits = lap_output[0] if kind == "explain" else lap_output
        assert isinstance(plain_output, torch.Tensor)
        assert plain_output.dtype == (torch.bfloat16 if variant.half else torch.float32)
        torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)
        if kind == "explain":
            assert lap_output[1].shape == (len(pair.images), 1, *pair.images.shape[-2:])

    def test_unknown_kind(self) -> None:
        with pytest.raises(SpeedError, match="unknown kind of cost 'sleep'"):
            workloads(zoo_twins(QUICK_ZOO[0], "cpu", quick=True), "sleep", VARIANTS["float32"])
