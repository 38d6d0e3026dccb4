"""Memory that is freed is kept: seen in how many pages the kernel is asked for."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

FAULTS = """
import resource, torch
from benchmarks.run.malloc import keep_freed_memory
torch.set_num_threads(1)
if {keep}:
    assert keep_freed_memory()
def use():
    parts = [torch.ones(10 << 20) for _ in range(4)]  # 40 MiB each, more than glibc ever keeps by itself
    return parts[0][0].item()
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep: bool) -> int:
    made = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(made.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_what_is_freed_is_not_fetched_again() -> None:
    assert faults(keep=True) * 10 < faults(keep=False)


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.run import malloc

    monkeypatch.setattr(malloc.sys, "platform", "darwin")
    assert not malloc.keep_freed_memory()
