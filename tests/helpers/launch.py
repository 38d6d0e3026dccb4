"""Start a script in two processes by `accelerate launch`, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import helpers

HELPERS = Path(helpers.__file__).parent
LAUNCH = (
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
    "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
)  # fmt: skip


def launch(script: Path, *words: str) -> str:
    """Run a script of the helpers in two processes, and return what they printed."""
    path = os.pathsep.join([str(HELPERS.parents[1]), str(HELPERS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *LAUNCH, str(script), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout
