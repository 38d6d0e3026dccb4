"""Probabilities and log odds of logits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from interp_core.lap.odds import class_probabilities, log_odds, predicts


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


def test_one_logit_has_a_sigmoid() -> None:
    logits, classes = torch.tensor([[2.0], [-1.0]]), torch.zeros(2, dtype=torch.int64)
    torch.testing.assert_close(class_probabilities(logits), logits.sigmoid())
    assert log_odds(logits, classes).tolist() == [2.0, -1.0]
    assert predicts(logits, classes).tolist() == [True, False]


def test_several_logits_have_a_softmax_unless_classes_are_independent() -> None:
    logits, classes = torch.tensor([[2.0, 1.0], [-1.0, -2.0]]), torch.tensor([0, 1])
    torch.testing.assert_close(class_probabilities(logits), logits.softmax(1))
    torch.testing.assert_close(class_probabilities(logits, multi_label=True), logits.sigmoid())
    assert predicts(logits, classes).tolist() == [True, False]
    assert predicts(logits, classes, multi_label=True).tolist() == [True, False]
