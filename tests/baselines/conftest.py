"""Small networks that every explainer can be tried on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

import interp_core


def tiny_backbone(in_chans: int = 3) -> nn.Module:
    torch.manual_seed(0)
    options = {"output_stride": 8, "avg_down": False, "zero_init_last": False}
    return timm.create_model("test_resnet", num_classes=4, in_chans=in_chans, **options).eval()


@pytest.fixture
def plain() -> nn.Module:
    return tiny_backbone()


@pytest.fixture
def lap() -> nn.Module:
    return interp_core.attach(tiny_backbone()).eval()


@pytest.fixture
def refined() -> nn.Module:
    return interp_core.attach(tiny_backbone(), refine=True).eval()


@pytest.fixture
def grey_model_for() -> Callable[[type], nn.Module]:
    """A network for one-channel images that the explainer class supports."""

    def choose(cls: type) -> nn.Module:
        model = tiny_backbone(in_chans=1)
        laps = [interp_core.attach(tiny_backbone(in_chans=1), refine=refine).eval() for refine in (None, True)]
        others = (model, *laps, TellingNet(in_chans=1).eval())
        return next(other for other in others if cls().refusal(other) is None)

    return choose


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class TellingNet(nn.Module):
    """A network that gives a map of itself from the pass it answers with: the squares of its last features, summed."""

    explains_itself = True

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        self.backbone = tiny_backbone(in_chans)

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        last = self.backbone.layer4
        assert isinstance(last, nn.Module)
        handle = last.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        self(images)
        handle.remove()
        return outputs[0].detach().square().sum(1, keepdim=True)


@pytest.fixture
def telling() -> nn.Module:
    return TellingNet().eval()


class RegionNet(nn.Module):
    """Logit 1 is how much the box looks like a checkerboard; the other logits are 0. Looks at nothing else."""

    def __init__(self, box: tuple[slice, slice], gain: float = 4.0) -> None:
        super().__init__()
        self.box = box
        self.gain = gain

    def forward(self, images: Tensor) -> Tensor:
        patch = images[..., self.box[0], self.box[1]]
        logit = self.gain * (patch * checkerboard(*patch.shape[-2:])).mean((1, 2, 3))
        return torch.stack([torch.zeros_like(logit), logit, torch.zeros_like(logit)], dim=1)


def checkerboard(height: int, width: int) -> Tensor:
    return ((torch.arange(height)[:, None] + torch.arange(width)) % 2 * 2 - 1).float()


@pytest.fixture
def box() -> tuple[slice, slice]:
    return slice(8, 16), slice(16, 24)


@pytest.fixture
def region_net(box: tuple[slice, slice]) -> RegionNet:
    return RegionNet(box).eval()


@pytest.fixture
def board() -> Tensor:
    """One image (1, 3, 32, 32) that is a checkerboard all over."""
    return checkerboard(32, 32).expand(1, 3, 32, 32).clone()


class GapNet(nn.Module):
    """Two convolutions, global average pooling and one linear layer, with timm's protocol."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 2, stride=2), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(6, 5, 2, stride=2), nn.ReLU())
        self.head = nn.Linear(5, 3)
        self.feature_info = [
            {"module": "stem", "num_chs": 6, "reduction": 2},
            {"module": "body", "num_chs": 5, "reduction": 4},
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(self.stem(x))

    def forward_head(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@pytest.fixture
def gap_net() -> GapNet:
    return GapNet().eval()


def attending(lap: nn.Module, a: float) -> nn.Module:
    """The LAP network with attention of sharpness `a` at every level."""
    with torch.no_grad():
        for block in (*lap.gates, lap.head):  # type: ignore[misc]
            block.a.fill_(a)  # type: ignore[union-attr]
    return lap


@pytest.fixture
def attentive() -> nn.Module:
    """A LAP network whose gates are far from 1, as after training."""
    return attending(interp_core.attach(tiny_backbone()).eval(), 20.0)


@pytest.fixture(params=["plain", "lap", "attentive"])
def any_network(request: pytest.FixtureRequest) -> nn.Module:
    return request.getfixturevalue(request.param)
