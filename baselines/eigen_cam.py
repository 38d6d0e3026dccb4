"""Eigen-CAM: the first principal component of the last feature map, the same for every class.

Idea: with the features as a matrix A of h w rows and C columns and its singular value decomposition A = U S V^T, the
map is A v_1 = s_1 u_1, its positive part, with the sign that makes its sum positive.
Paper: Muhammad and Yeasin, IJCNN 2020. Not centred, as in the paper.
Library: torch `linalg.svd`; captum has none.
Baseline: none.
Budget: one pass.
Cost: 1 forward, no backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused. Everywhere flagged, since the
class plays no part.
Known limits: shows what is strong in the features, whatever the class; a test of class sensitivity must fail it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from baselines.base import explainers
from baselines.support.cam import Cam, last_features
from interp_core.backbone.inspect import FeatureLayer


@explainers.register("eigen_cam")
class EigenCam(Cam):
    """First principal component of the last features, positive part; fields as in `Cam`."""

    title: ClassVar[str] = "Eigen-CAM"
    source: ClassVar[str] = "Muhammad and Yeasin 2020"

    def caveat(self, model: nn.Module) -> str | None:  # noqa: ARG002
        """Always: it does not look at the class."""
        return "its map is the same for every class"

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Maps (N, 1, h, w) >= 0."""
        features = last_features(model, layer, images)
        # In double precision, so that a batch has the component of its images.
        left, values, _ = torch.linalg.svd(features.flatten(2).mT.double(), full_matrices=False)
        component = left[..., 0] * values[..., :1]
        component = component * component.sum(1, keepdim=True).sign()
        return component.relu().to(features.dtype).view(-1, 1, *features.shape[-2:])
