"""One small member of every family of timm's and torchvision's CNNs and hybrids: function kept, explained, restored.

All networks have random weights brought to life, see `alive`; `interp-bench study coverage` does the
same for every
network of timm. A trained network on photographs stands at the end, where both are at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision.models as tv
from helpers.shared import SHARED
from PIL import Image
from torch import Tensor, nn

import interp_core
from interp_core.deploy.zoo import CONVOLUTIONAL, HYBRID
from interp_core.errors import BackboneError

pytestmark = pytest.mark.slow

Snapshot = Callable[[nn.Module], dict[str, Any]]

# By timm's module: a member, the side of its images and arguments that make it small.
TIMM: dict[str, tuple[str, int, dict[str, Any]]] = {
    "efficientnet": ("test_efficientnet", 64, {}),
    "resnet": ("test_resnet", 64, {}),
    "byobnet": ("test_byobnet", 64, {}),
    "nfnet": ("test_nfnet", 64, {}),
    "regnet": ("regnetx_002", 64, {}),
    "mobilenetv3": ("lcnet_035", 64, {}),
    "convnext": ("test_convnext", 64, {}),
    "cspnet": ("cs3darknet_s", 64, {}),
    "resnetv2": ("resnetv2_18", 64, {}),
    "dla": ("dla46x_c", 64, {}),
    "hrnet": ("hrnet_w18_small", 64, {}),
    "mambaout": ("test_mambaout", 64, {}),
    "vovnet": ("ese_vovnet19b_slim_dw", 64, {}),
    "ghostnet": ("ghostnet_050", 64, {}),
    "hgnet": ("hgnetv2_b0", 64, {}),
    "rexnet": ("rexnet_100", 64, {}),
    "senet": ("legacy_seresnet18", 64, {}),
    "res2net": ("res2net50_48w_2s", 64, {}),
    "repghost": ("repghostnet_050", 64, {}),
    "repvit": ("repvit_m0_9", 64, {}),
    "resnest": ("resnest14d", 64, {}),
    "vgg": ("vgg11", 64, {"mlp_ratio": 1 / 64}),
    "dpn": ("dpn48b", 64, {}),
    "starnet": ("starnet_s050", 64, {}),
    "densenet": ("densenet121", 64, {}),
    "fasternet": ("fasternet_t0", 64, {}),
    "hardcorenas": ("hardcorenas_a", 64, {}),
    "cspnext": ("cspnext_tiny", 64, {}),
    "selecsls": ("selecsls42b", 128, {}),
    "sknet": ("skresnet18", 64, {}),
    "xception_aligned": ("xception41", 64, {}),
    "inception_next": ("inception_next_atto", 64, {}),
    "rdnet": ("rdnet_tiny", 64, {}),
    "tresnet": ("tresnet_m", 64, {}),
    "convmixer": ("convmixer_768_32", 64, {}),
    "lcnetv2": ("lcnetv2_small", 64, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 107, {}),
    "inception_v3": ("inception_v3", 107, {}),
    "inception_v4": ("inception_v4", 107, {}),
    "xception": ("legacy_xception", 64, {}),
    "nasnet": ("nasnetalarge", 64, {"stem_size": 16, "num_features": 192}),
    "pnasnet": ("pnasnet5large", 64, {}),
    "byoanet": ("botnet26t_256", 64, {"img_size": 64}),
    "maxxvit": ("test_maxvit", 64, {"img_size": 64}),
    "metaformer": ("poolformerv2_s12", 64, {}),
    "focalnet": ("focalnet_tiny_srf", 64, {}),
    "fastvit": ("fastvit_t8", 64, {}),
    "mobilevit": ("mobilevitv2_050", 64, {}),
    "edgenext": ("edgenext_xx_small", 64, {}),
    "efficientformer": ("efficientformer_l1", 224, {}),
    "efficientformer_v2": ("efficientformerv2_s0", 64, {"img_size": 64}),
    "efficientvit_mit": ("efficientvit_b0", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 128, {}),
    "nextvit": ("nextvit_small", 64, {}),
    "visformer": ("visformer_tiny", 64, {"img_size": 64}),
    "tiny_vit": ("tiny_vit_5m_224", 64, {}),
    "shvit": ("shvit_s1", 128, {}),
    "swiftformer": ("swiftformer_xs", 64, {}),
    "iformer": ("iformer_t", 64, {}),
    "lowformer": ("lowformer_b0", 64, {}),
    "cpubone": ("cpubone_nano", 64, {}),
    "mobilenetv5": ("mobilenetv5_base", 128, {"channel_multiplier": 0.25}),
    "pvt_v2": ("pvt_v2_b0", 64, {}),
    "davit": ("davit_tiny", 64, {"depths": (1, 1, 1, 1)}),
    "gcvit": ("gcvit_xxtiny", 64, {"img_size": 64}),
    "csatv2": ("csatv2", 128, {}),
    "levit": ("levit_128s", 128, {"img_size": 128}),
    "coat": ("coat_lite_tiny", 64, {"img_size": 64}),
    "vitamin": ("vitamin_small_224", 64, {"img_size": 64}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64, {"img_size": 64}),
    "efficientvim": ("efficientvim_m1", 64, {}),
}
# What families do in the members not above.
TRAPS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "SAME padding": ("tf_mobilenetv3_small_minimal_100", 64, {}),
    "convolutions mixed for each image": ("efficientnet_cc_b0_4e", 64, {}),
    "blurred pooling": ("resnetblur18", 64, {}),
    "weights standardised in each pass": ("resnetv2_50x1_bit", 64, {}),
    "NHWC features": ("test_mambaout", 64, {}),
    "evonorm": ("test_efficientnet_evos", 64, {}),
    "attention for a pooling": ("resnet50_clip", 64, {"img_size": 64}),
    "two heads": ("levit_conv_128s", 128, {"img_size": 128}),
    "dilation for strides": ("resnet18", 64, {"output_stride": 8}),
    "blocks dropped at random": ("resnet26", 64, {"drop_path_rate": 0.3}),
    "average and maximum": ("test_resnet", 64, {"global_pool": "catavgmax"}),
}
# Families without a gate below the head, and why.
UNGATED = {"convmixer": "keeps the resolution of its patches to the end"}

MAXVIT = {"input_size": (64, 64), "partition_size": 2, "stem_channels": 16, "head_dim": 16}
STAGES = {"block_channels": [16, 32, 64, 128], "block_layers": [1, 1, 1, 1], "stochastic_depth_prob": 0.2}
TORCHVISION: dict[str, tuple[Callable[..., nn.Module], int, dict[str, Any]]] = {
    "alexnet": (tv.alexnet, 128, {}),
    "vgg11_bn": (tv.vgg11_bn, 64, {}),
    "resnet18": (tv.resnet18, 64, {}),
    "squeezenet1_1": (tv.squeezenet1_1, 64, {}),
    "densenet121": (tv.densenet121, 64, {}),
    "googlenet": (tv.googlenet, 64, {"init_weights": False, "aux_logits": False}),
    "inception_v3": (tv.inception_v3, 107, {"init_weights": False, "aux_logits": False}),
    "shufflenet_v2_x0_5": (tv.shufflenet_v2_x0_5, 64, {}),
    "mobilenet_v2": (tv.mobilenet_v2, 64, {}),
    "mobilenet_v3_small": (tv.mobilenet_v3_small, 64, {}),
    "mnasnet0_5": (tv.mnasnet0_5, 64, {}),
    "efficientnet_b0": (tv.efficientnet_b0, 64, {}),
    "regnet_y_400mf": (tv.regnet_y_400mf, 64, {}),
    "convnext_tiny": (tv.convnext_tiny, 64, {}),
    "maxvit": (tv.MaxVit, 64, MAXVIT | STAGES),
}


def images_of(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def alive(model: nn.Module, side: int) -> nn.Module:
    """No branch that starts at zero may hide a change, and batch norm has seen images."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(images_of(side))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(0)  # for dropout
    output = model(images)
    return output if isinstance(output, Tensor) else output[0]


def in_training(model: nn.Module, backbone: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits in training mode and the state of the backbone afterwards; it is put back."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    logits = logits_of(model.train(), images)
    after = [value.clone() for value in backbone.state_dict().values()]
    with torch.no_grad():
        for name, value in backbone.state_dict().items():
            value.copy_(before[name])
    model.eval()
    return logits, after


def check_family(model: nn.Module, side: int, snapshot: Snapshot, *, gated: bool = True) -> None:
    """Attach, compare in both modes, explain, train the attention, detach."""
    images = images_of(side)
    alive(model, side)
    before, logits = snapshot(model), logits_of(model, images)
    trained, state = in_training(model, model, images)
    assert logits.shape == (2, 4)
    assert not torch.equal(logits[0], logits[1])
    lap = interp_core.attach(model, image_size=side)
    assert torch.equal(logits_of(lap, images), logits)
    again, after = in_training(lap, model, images)
    assert torch.equal(again, trained)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(after, state, strict=True))
    explanation = lap.explain(images, logits.abs().argmax(1))  # `gap` is in units of the logit, which may be near 0
    assert explanation.gap <= 1e-5
    assert explanation.map.shape == (2, 1, side, side)
    assert bool(lap.gates) == gated
    for block in (*lap.gates, lap.head):
        nn.init.constant_(block.a, 2.0)  # type: ignore[arg-type]
    sharp = logits_of(lap, images)
    assert not torch.equal(sharp, logits)
    assert lap.explain(images, sharp.abs().argmax(1)).gap <= 1e-5
    assert torch.equal(logits_of(model, images), logits)
    assert interp_core.detach(lap) is model
    assert snapshot(model) == before


def make_timm(name: str, arguments: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=4, drop_rate=0.2, **arguments)


def test_every_family_has_a_member_here() -> None:
    assert list(TIMM) == [*CONVOLUTIONAL, *HYBRID]
    for family, (name, _, _) in TIMM.items():
        assert name in timm.list_models(module=family)


@pytest.mark.parametrize("family", TIMM)
def test_family_of_timm(family: str, snapshot: Snapshot) -> None:
    name, side, arguments = TIMM[family]
    check_family(make_timm(name, arguments), side, snapshot, gated=family not in UNGATED)


@pytest.mark.parametrize("trap", TRAPS)
def test_trap_in_timm(trap: str, snapshot: Snapshot) -> None:
    name, side, arguments = TRAPS[trap]
    check_family(make_timm(name, arguments), side, snapshot)


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize("name", TORCHVISION)
def test_family_of_torchvision(name: str, snapshot: Snapshot) -> None:
    make, side, arguments = TORCHVISION[name]
    torch.manual_seed(0)
    model = make(num_classes=4, **arguments)
    if name == "vgg11_bn":  # nine tenths of its weights
        model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 4))
    check_family(model, side, snapshot)


def test_auxiliary_logits_are_dropped_and_nothing_else() -> None:
    """Their dropout draws random numbers too, so dropout is off here."""
    torch.manual_seed(0)
    model = alive(tv.googlenet(num_classes=4, init_weights=False, dropout=0.0, dropout_aux=0.0), 64)
    images = images_of(64)
    plain, (trained, _) = logits_of(model, images), in_training(model, model, images)
    lap = interp_core.attach(model, image_size=64)
    assert torch.equal(logits_of(lap, images), plain)
    assert torch.equal(in_training(lap, model, images)[0], trained)


TRANSFORMERS: dict[str, dict[str, Any]] = {
    "test_vit": {},
    "test_vit_relpos": {},
    "deit_tiny_patch16_224": {"depth": 1},
    "beit_base_patch16_224": {"depth": 1, "embed_dim": 48, "num_heads": 3},
    "eva02_tiny_patch14_224": {"depth": 1},
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 1, 1)},
    "swinv2_tiny_window8_256": {"depths": (1, 1, 1, 1)},
    "cait_xxs24_224": {"depth": 1},
    "convit_tiny": {"depth": 2},
    "crossvit_tiny_240": {},
    "mixer_s32_224": {},
    "gmlp_ti16_224": {},
    "deepseek_vit_412m": {"depth": 1, "embed_dim": 64, "num_heads": 2},
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_pure_transformer_is_told_why_not(name: str, snapshot: Snapshot) -> None:
    model = timm.create_model(name, num_classes=4, **TRANSFORMERS[name])
    before = snapshot(model.train())
    with pytest.raises(BackboneError, match="is not convolutional: it cuts the image into patches once") as caught:
        interp_core.attach(model)
    assert "\n" not in str(caught.value)
    assert snapshot(model) == before


def test_a_transformer_of_torchvision_is_told_why_not(snapshot: Snapshot) -> None:
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 32}
    model = tv.VisionTransformer(image_size=64, patch_size=16, num_classes=4, **sizes)
    before = snapshot(model)
    with pytest.raises(BackboneError, match="VisionTransformer is not convolutional"):
        interp_core.attach(model)
    assert snapshot(model) == before


def test_a_network_that_reads_a_class_token_is_told_so(snapshot: Snapshot) -> None:
    model = timm.create_model("xcit_nano_12_p16_224", num_classes=4, depth=1)
    before = snapshot(model)
    with pytest.raises(BackboneError, match="it reads a class token"):
        interp_core.attach(model)
    assert snapshot(model) == before


@pytest.mark.parametrize("name", ["efficientvit_m0", "shvit_s1"])
def test_a_head_with_batch_norm_adds_up_after_training_from_scratch(name: str) -> None:
    """Batch norm that has seen nothing is the identity, and a head with it only looks linear."""
    model = timm.create_model(name, num_classes=4)
    lap = interp_core.attach(model, image_size=128)
    assert not lap.info.linear_head
    logits_of(lap.train(), images_of(128))
    assert lap.eval().explain(images_of(128)).gap <= 1e-5


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_a_single_cell_does_not_tell_how_the_head_pools(pool: str) -> None:
    lap = interp_core.attach(timm.create_model("test_resnet", num_classes=4, global_pool=pool).eval(), image_size=32)
    assert lap.info.grid == (1, 1)
    assert lap.explain(images_of(96)).gap <= 1e-5


WEIGHTS = SHARED / "weights" / "mobilenetv2_100_tf2ptq.pt"
PHOTOGRAPHS = SHARED / "data" / "imagenet_slice" / "val"


def photographs() -> Tensor:
    files = sorted(PHOTOGRAPHS.glob("*/*.JPEG"))
    pictures = [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.skipif(
    not (WEIGHTS.is_file() and PHOTOGRAPHS.is_dir()),
    reason=f"trained weights and photographs are not in {SHARED.name}/",
)
def test_a_trained_network_sees_the_same_in_photographs(snapshot: Snapshot) -> None:
    model = timm.create_model("mobilenetv2_100", num_classes=1000, pad_type="same")
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    images, before = photographs(), snapshot(model.eval())
    logits = torch.cat([logits_of(model, batch) for batch in images.split(8)])
    classes = [line.split(",")[:2] for line in (PHOTOGRAPHS.parent / "synsets.csv").read_text().splitlines()[1:]]
    labels = torch.tensor([int(label) for _, label in sorted(classes)]).repeat_interleave(4)
    lap = interp_core.attach(model)
    assert lap.info.linear_head
    explanations = [lap.explain(batch) for batch in images.split(8)]
    explained_logits = torch.cat([explanation.logits for explanation in explanations])
    assert torch.equal(explained_logits, logits)
    assert torch.equal(torch.cat([explanation.targets for explanation in explanations]), logits.argmax(1))
    assert (explained_logits.argmax(1) == labels).float().mean() >= 0.5  # it has been trained
    assert max(explanation.gap for explanation in explanations) <= 1e-5
    assert interp_core.detach(lap) is model
    assert snapshot(model) == before
