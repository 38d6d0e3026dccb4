"""Repairs of a network, one a file; every module registers its repair when it is imported."""

from __future__ import annotations

from benchmarks.diagnosis.repairs.base import Repair, RepairTask, repairs
from interp_core.registry import import_modules

__all__ = ["Repair", "RepairTask", "repairs"]

import_modules(__path__, __name__)
