"""Log odds of one class an image, which stay finite where probabilities round to 0 or 1."""

from __future__ import annotations

from torch import Tensor


def log_odds(logits: Tensor, classes: Tensor, multi_label: bool) -> Tensor:
    """Compute log p_k / (1 - p_k) of one class k an image, (N,).

    Args:
        logits: (N, K), K >= 2 for a softmax.
        classes: (N,).
        multi_label: whether p is a sigmoid of each logit instead of the softmax over all.
    """
    index = classes[:, None]
    class_logits = logits.gather(1, index)[:, 0]
    return class_logits if multi_label else class_logits - logits.scatter(1, index, float("-inf")).logsumexp(1)
