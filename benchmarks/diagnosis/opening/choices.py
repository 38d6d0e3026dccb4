"""Choices of the command line, in a module that imports nothing large, so that its help is quick."""

from __future__ import annotations

from enum import StrEnum


class FailOn(StrEnum):
    """Least outcome that fails the gate."""

    warn = "warn"
    fail = "fail"


class SplitChoice(StrEnum):
    """Images of a data set: one of its splits, or all of them."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"
