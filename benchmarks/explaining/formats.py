"""Kinds of files that an explanation is written as. A separate module, since it imports nothing."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """Kinds of files that an explanation is written as."""

    png = "png"
    npy = "npy"
    json = "json"
