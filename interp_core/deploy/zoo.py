"""Register LAP models with timm: `timm.create_model("lap_resnet50", pretrained=True, lap={"finest": 8})`.

    import interp_core.deploy.zoo
    timm.list_models("lap_*")                          # one name for each convolutional or hybrid network of timm
    timm.create_model("lap_resnet50.a1_in1k", pretrained=True, num_classes=10)

A network belongs to a family if timm defines it in one of the modules below, so that no network is built to find out.
`attach` decides in the end, and refuses the same networks as elsewhere. Weights and tags are those of the backbone.
With `pretrained=True` the redistribution comes from `interp_core.deploy.ready_made`, where there is one for these
weights; otherwise LAP is attached and not trained.

Limits: deprecated names of timm are omitted. `features_only=True` has no classifier and is refused by `attach`.
`hf-hub:` and `local-dir:` names are timm's own: load LAP models from there with `LapModel.from_pretrained`.
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

from interp_core.backbone.timm_models import BackboneSpec, create_backbone
from interp_core.deploy.ready_made import load_ready_made
from interp_core.errors import UnknownNameError
from interp_core.lap.attach import LapModel, attach

PREFIX = "lap_"

# Modules of timm whose networks consist of convolutions, largest families first.
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

# `timm.models.register_model` reads the tags and weights of this module's names from here.
default_cfgs: dict[str, DefaultCfg] = {}

EntryPoint = Callable[..., LapModel]


def names(kind: Literal["convolutional", "hybrid"] | None = None) -> list[str]:
    """Return timm's names of one kind or of both.

    They have no tags and are in timm's order. No network is built.

    Raises:
        UnknownNameError: no such kind.
    """
    if kind is None:
        return list_models(module=[*CONVOLUTIONAL, *HYBRID])
    if kind not in FAMILIES:
        raise UnknownNameError("kind of backbone", kind, FAMILIES)
    return list_models(module=FAMILIES[kind])


def register(backbones: Iterable[str] | None = None) -> list[str]:
    """Register `lap_<name>` with timm.

    Importing this module does so for all of `names()`.

    Args:
        backbones: names in timm's registry, such as a network of your own; None for `names()`. A name whose
            `lap_<name>` is registered already is skipped.

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
            added.append(_register_one(backbone))
    return added


def _register_one(backbone: str) -> str:
    name = PREFIX + backbone
    cfgs = get_arch_pretrained_cfgs(backbone)
    if cfgs:
        by_tag = {split_model_name_tag(tagged_name)[1]: cfg for tagged_name, cfg in cfgs.items()}
        has_weights = any(cfg.has_weights for cfg in by_tag.values())
        default_cfgs[name] = DefaultCfg(tags=deque(by_tag), cfgs=by_tag, is_pretrained=has_weights)
    globals()[name] = register_model(_entry_point_of(backbone))
    return name


def _entry_point_of(backbone: str) -> EntryPoint:
    """Return the function with which timm creates `lap_<backbone>`."""

    def entry(
        pretrained: bool = False,
        *,
        pretrained_cfg: str | dict[str, Any] | PretrainedCfg | None = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: str | None = None,
        lap: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LapModel:
        name, cfg_kwargs = _name_and_cfg(backbone, pretrained_cfg, pretrained_cfg_overlay)
        network = create_backbone(name, pretrained=pretrained, cache_dir=cache_dir, **cfg_kwargs, **kwargs)
        model = attach(network, **(lap or {}))
        if pretrained:
            load_ready_made(model)
        saved_kwargs = _kwargs_to_save(cfg_kwargs | kwargs | {"pretrained": pretrained})
        model.backbone_spec = BackboneSpec(name=name, kwargs=saved_kwargs)
        return model

    entry.__name__ = entry.__qualname__ = PREFIX + backbone
    entry.__doc__ = f"{backbone} of timm with LAP attached; `lap` are the options of `interp_core.attach`."
    return entry


def _name_and_cfg(
    backbone: str, cfg: str | dict[str, Any] | PretrainedCfg | None, overlay: dict[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Return tagged name and arguments that select the backbone's weights."""
    cfg_kwargs: dict[str, Any] = {"pretrained_cfg_overlay": overlay} if overlay else {}
    if isinstance(cfg, str) and cfg:
        return f"{backbone}.{cfg}", cfg_kwargs
    return backbone, cfg_kwargs | ({"pretrained_cfg": cfg} if cfg else {})


def _kwargs_to_save(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Select the arguments with which a saved model is built again.

    Device and source of the first weights are not among them.
    """
    selected = {key: value for key, value in kwargs.items() if key not in ("device", "dtype", "pretrained_model_args")}
    cfg = selected.get("pretrained_cfg")
    if cfg is not None:
        cfg = cfg if isinstance(cfg, PretrainedCfg) else PretrainedCfg(**cfg)
        selected["pretrained_cfg"] = cfg.to_dict(remove_source=True)  # type: ignore[no-untyped-call]
        selected["pretrained_cfg"].pop("state_dict", None)
    return selected


register()
