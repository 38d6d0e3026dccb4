"""Eigen-CAM: the first principal component of the last feature map, the same for every class.

Idea: with the features as a matrix A of h w rows and C columns and its singular value decomposition A = U S V^T, the
map is A v_1 = s_1 u_1, its positive part, with the sign that makes its sum positive.
Paper: Muhammad and Yeasin, IJCNN 2020. Not centred, as in the paper.
Library: torch `linalg.svd`; captum has none.
Baseline: none.
Budget: one pass.
Cost: 1 forward, no backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused. Always flagged, since the map
does not depend on the class.
Known limits: shows what is strong in the features, whatever the class. It must fail a test of class sensitivity.
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
        """Report, on every model, that the class is ignored."""
        return "its map is the same for every class"

    def cells(self, model: nn.Module, layer: FeatureLayer, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Compute maps (N, 1, h, w) >= 0."""
        features = last_features(model, layer, images)
        # In double precision, so that the component does not depend on the batch.
        left_vectors, values, _ = torch.linalg.svd(features.flatten(2).mT.double(), full_matrices=False)
        component = left_vectors[..., 0] * values[..., :1]
        component = component * component.sum(1, keepdim=True).sign()
        maps: Tensor = component.relu().to(features.dtype).view(-1, 1, *features.shape[-2:])
        return maps
