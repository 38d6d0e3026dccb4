"""Deploy a LAP model as a plain module that returns logits and map of the predicted class.

    served = Serving(lap)
    logits, maps = served(images)
    torch.export.export(served, (images,))

Limit: it explains the predicted class only. For others call `LapModel.explain`.
"""

from __future__ import annotations

from torch import Tensor, nn

from interp_core.errors import ContractError
from interp_core.lap.attach import LapModel


class Serving(nn.Module):
    """A LAP model as a module with two outputs.

    For `torch.export`, ONNX and `torch.compile`.

    Args:
        lap: the model. It is set to evaluation mode, and its weights are shared, not copied.

    Raises:
        ContractError: not a LAP model.
    """

    def __init__(self, lap: LapModel) -> None:
        super().__init__()
        if not isinstance(lap, LapModel):
            raise ContractError(f"Serving takes a LAP model, got {type(lap).__name__}: attach LAP to it first")
        self.lap = lap.eval()
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and maps of the predicted classes.

        From normalised images (N, C, H, W) to logits (N, K) and maps (N, 1, H, W).
        """
        explanation = self.lap.explain(images)
        return explanation.logits, explanation.map
