"""Start commands in processes of their own and kill them at random moments.

A fork server imports the libraries once, so that a process starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOAD = [
    "benchmarks.cli", "benchmarks.run.engine", "benchmarks.report", "benchmarks.explaining.fit",
    "benchmarks.diagnosis.suite", "benchmarks.diagnosis.checks", "benchmarks.diagnosis.opening.network", "accelerate",
]  # fmt: skip
TIMEOUT = 300


def start(words: Sequence[str], log: Path) -> BaseProcess:
    """Start `interp-bench WORDS` in a process of its own, with its output in a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_run, args=(list(words), str(log)))
    process.start()
    return process


def _run(words: list[str], log: str) -> None:
    from helpers.command import exit_code

    os.setpgid(0, 0)  # so that its workers can be killed with it
    with open(log, "a", buffering=1) as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):  # noqa: PTH123
        code = exit_code(*words)
    os._exit(code)


def run(words: Sequence[str], log: Path) -> float:
    """Run a command to its end; return the seconds it took.

    Raises:
        AssertionError: it failed or took too long.
    """
    begin = time.perf_counter()
    process = start(words, log)
    process.join(TIMEOUT)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode == 0, log.read_text()[-2000:]
    return time.perf_counter() - begin


def kill_at_random(
    make_words: Callable[[Path], Sequence[str]], folder: Path, kills: int, seconds: float, seed: int
) -> list[Path]:
    """Run a command again and again, kill it at random moments, and let it end.

    Args:
        make_words: from the output folder to the command.
        folder: for output folders and logs.
        kills: number of kills in all.
        seconds: that the command takes.
        seed: of the moments.

    Returns:
        Output folders, each of a command that was killed at least once, and then ran to its end.
    """
    random_moment, outputs, done = random.Random(seed), [], 0
    while done < kills:
        output = folder / f"killed{len(outputs)}"
        words, log = make_words(output), folder / f"killed{len(outputs)}.log"
        while done < kills:
            process = start(words, log)
            process.join(random_moment.uniform(0.02, 1.0) * seconds)
            if process.exitcode is not None:
                assert process.exitcode == 0, log.read_text()[-2000:]
                break
            process.kill()
            process.join()
            done += 1
        run(words, log)
        outputs.append(output)
    print(f"{done} kills, {len(outputs)} folders", file=sys.stderr)
    return outputs
