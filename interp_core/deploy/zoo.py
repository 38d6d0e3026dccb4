"""LAP models in timm's registry: `timm.create_model("lap_resnet50", pretrained=True, lap={"finest": 8})`.

    import interp_core.deploy.zoo
    timm.list_models("lap_*")                          # one name for each convolutional or hybrid network of timm
    timm.create_model("lap_resnet50.a1_in1k", pretrained=True, num_classes=10)

Membership is by timm's own modules, so that nothing is built to find it out: a network belongs to a family if timm
defines it in one of the modules below. `attach` has the last word; what it refuses here it refuses there. Weights and
tags are those of the backbone, with LAP attached to them and not trained.

Limits: deprecated names of timm are left out; `features_only=True` has no classifier and is refused by `attach`;
`hf-hub:` and `local-dir:` names are timm's own, LAP models come from there through `interp_core.lap.hub`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

from timm.models import (
    DefaultCfg,
    PretrainedCfg,
    get_arch_pretrained_cfgs,
    is_model,
    list_models,
    register_model,
    split_model_name_tag,
)

from interp_core.backbone.timm_models import create_backbone
from interp_core.errors import UnknownNameError
from interp_core.lap.attach import LapModel, attach

PREFIX = "lap_"

# Modules of timm whose networks are made of convolutions, largest families first.
CONVOLUTIONAL: tuple[str, ...] = (
    "efficientnet",
    "resnet",
    "byobnet",
    "nfnet",
    "regnet",
    "mobilenetv3",
    "convnext",
    "cspnet",
    "resnetv2",
    "dla",
    "hrnet",
    "mambaout",
    "vovnet",
    "ghostnet",
    "hgnet",
    "rexnet",
    "senet",
    "res2net",
    "repghost",
    "repvit",
    "resnest",
    "vgg",
    "dpn",
    "starnet",
    "densenet",
    "fasternet",
    "hardcorenas",
    "cspnext",
    "selecsls",
    "sknet",
    "xception_aligned",
    "inception_next",
    "rdnet",
    "tresnet",
    "convmixer",
    "lcnetv2",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "xception",
    "nasnet",
    "pnasnet",
)

# Modules of timm whose networks mix convolutions with attention or another mixing of tokens.
HYBRID: tuple[str, ...] = (
    "byoanet",
    "maxxvit",
    "metaformer",
    "focalnet",
    "fastvit",
    "mobilevit",
    "edgenext",
    "efficientformer",
    "efficientformer_v2",
    "efficientvit_mit",
    "efficientvit_msra",
    "nextvit",
    "visformer",
    "tiny_vit",
    "shvit",
    "swiftformer",
    "iformer",
    "lowformer",
    "cpubone",
    "mobilenetv5",
    "pvt_v2",
    "davit",
    "gcvit",
    "csatv2",
    "levit",
    "coat",
    "vitamin",
    "vision_transformer_hybrid",
    "efficientvim",
)

FAMILIES: dict[str, tuple[str, ...]] = {"convolutional": CONVOLUTIONAL, "hybrid": HYBRID}

__all__ = ["CONVOLUTIONAL", "HYBRID", "names", "register"]

# Where `timm.models.register_model` looks for the tags and weights of the names it registers from this module.
default_cfgs: dict[str, DefaultCfg] = {}

Entry = Callable[..., LapModel]


def names(kind: Literal["convolutional", "hybrid"] | None = None) -> list[str]:
    """Names of timm, without tags and sorted as timm sorts them, of one kind or of both; no network is built.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind is None:
        return list_models(module=[*CONVOLUTIONAL, *HYBRID])
    if kind not in FAMILIES:
        raise UnknownNameError("kind of backbone", kind, FAMILIES)
    return list_models(module=FAMILIES[kind])


def register(backbones: Iterable[str] | None = None) -> list[str]:
    """Enter `lap_<name>` into timm's registry; importing this module does so for all of `names()`.

    Args:
        backbones: names in timm's registry, such as a network of your own; None for `names()`. A name whose
            `lap_<name>` is there already is left alone.

    Returns:
        The names that are new in the registry.

    Raises:
        UnknownNameError: timm has no such model.
    """
    added = []
    for backbone in names() if backbones is None else backbones:
        if not is_model(backbone):
            raise UnknownNameError("backbone", backbone, list_models())
        if not is_model(PREFIX + backbone):
            added.append(_enter(backbone))
    return added


def _enter(backbone: str) -> str:
    name = PREFIX + backbone
    cfgs = get_arch_pretrained_cfgs(backbone)
    if cfgs:
        tagged = {split_model_name_tag(known)[1]: cfg for known, cfg in cfgs.items()}
        weights = any(cfg.has_weights for cfg in tagged.values())
        default_cfgs[name] = DefaultCfg(tags=deque(tagged), cfgs=tagged, is_pretrained=weights)
    globals()[name] = register_model(_entry(backbone))
    return name


def _entry(backbone: str) -> Entry:
    """What timm calls to make `lap_<backbone>`."""

    def entry(
        pretrained: bool = False,
        *,
        pretrained_cfg: str | dict[str, Any] | PretrainedCfg | None = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: str | None = None,
        lap: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LapModel:
        name, shared = _source(backbone, pretrained_cfg, pretrained_cfg_overlay)
        network = create_backbone(name, pretrained=pretrained, cache_dir=cache_dir, **shared, **kwargs)
        model = attach(network, **(lap or {}))
        model.backbone_spec = {"name": name, "kwargs": _lasting(shared | kwargs | {"pretrained": pretrained})}
        return model

    entry.__name__ = entry.__qualname__ = PREFIX + backbone
    entry.__doc__ = f"{backbone} of timm with LAP attached; `lap` are the options of `interp_core.attach`."
    return entry


def _source(
    backbone: str, cfg: str | dict[str, Any] | PretrainedCfg | None, overlay: dict[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Name with its tag, and what else says which weights are meant."""
    shared: dict[str, Any] = {"pretrained_cfg_overlay": overlay} if overlay else {}
    if isinstance(cfg, str) and cfg:
        return f"{backbone}.{cfg}", shared
    return backbone, shared | ({"pretrained_cfg": cfg} if cfg else {})


def _lasting(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a saved model needs to be built again: neither placement nor where the first weights came from."""
    kept = {key: value for key, value in kwargs.items() if key not in ("device", "dtype", "pretrained_model_args")}
    cfg = kept.get("pretrained_cfg")
    if cfg is not None:
        cfg = cfg if isinstance(cfg, PretrainedCfg) else PretrainedCfg(**cfg)
        kept["pretrained_cfg"] = cfg.to_dict(remove_source=True)
        kept["pretrained_cfg"].pop("state_dict", None)
    return kept


register()
