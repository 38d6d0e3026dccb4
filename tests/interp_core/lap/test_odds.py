"""Log odds of one class an image."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from interp_core.lap.odds import log_odds


@pytest.mark.parametrize("multi_label", [False, True])
def test_log_odds_are_exact_where_probabilities_are_not(multi_label: bool) -> None:
    logits = torch.tensor([[80.0, -80.0, 0.0], [1.0, 2.0, 3.0]])
    classes = torch.tensor([0, 2])
    odds = log_odds(logits, classes, multi_label)
    if multi_label:
        assert odds.tolist() == [80.0, 3.0]
    else:
        others = math.log(math.exp(1) + math.exp(2))
        assert odds.tolist() == pytest.approx([80.0, 3 - others])
        torch.testing.assert_close(F.softplus(-odds), F.cross_entropy(logits, classes, reduction="none"))
