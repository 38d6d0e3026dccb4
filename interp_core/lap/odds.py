"""Probabilities and log odds of logits, for networks of any head.

A class has the softmax over all logits. It has its own sigmoid where an image may show several classes, and where the
network has one logit: the softmax of one number is 1 whatever the image. That logit stands for class 1 against class 0,
and is addressed as target 0.
"""

from __future__ import annotations

from torch import Tensor


def is_sigmoid(logits: Tensor, multi_label: bool = False) -> bool:
    """Return whether each of the logits (N, K) is decided by its own sigmoid.

    >>> import torch
    >>> is_sigmoid(torch.zeros(2, 1)), is_sigmoid(torch.zeros(2, 3)), is_sigmoid(torch.zeros(2, 3), multi_label=True)
    (True, False, True)
    """
    return multi_label or logits.shape[1] == 1


def class_probabilities(logits: Tensor, multi_label: bool = False) -> Tensor:
    """Turn logits (N, K) into probabilities (N, K).

    Args:
        logits: (N, K).
        multi_label: whether an image may show several classes.
    """
    return logits.sigmoid() if is_sigmoid(logits, multi_label) else logits.softmax(1)


def predicts(logits: Tensor, classes: Tensor, multi_label: bool = False) -> Tensor:
    """Return whether the network decides for one class an image, (N,) bool.

    Args:
        logits: (N, K).
        classes: (N,).
        multi_label: whether an image may show several classes; a class is then decided by the sign of its logit.
    """
    if is_sigmoid(logits, multi_label):
        return logits.gather(1, classes[:, None])[:, 0] > 0
    return logits.argmax(1) == classes


def log_odds(logits: Tensor, classes: Tensor, multi_label: bool = False) -> Tensor:
    """Compute log p_k / (1 - p_k) of one class k an image, (N,); finite where probabilities round to 0 or 1.

    Args:
        logits: (N, K).
        classes: (N,).
        multi_label: whether an image may show several classes.
    """
    index = classes[:, None]
    class_logits = logits.gather(1, index)[:, 0]
    if is_sigmoid(logits, multi_label):
        return class_logits
    return class_logits - logits.scatter(1, index, float("-inf")).logsumexp(1)
