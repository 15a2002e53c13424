"""A run that is killed and started again does what an uninterrupted run does."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import background
from helpers.background import Background, needs
from helpers.training_runs import write_scenes
from helpers.whole_run import ROWS, STEPS, steps_of, uninterrupted, whole_command

UNREACHED = 40  # steps of the broken run: more than it ever does, as a run that ends by itself leaves nothing to break

pytestmark = pytest.mark.timeout(900)


def command(scenes: Path, out: Path, steps: int) -> list[str]:
    return whole_command(scenes, out, steps, "trainer.val_before_train=false")


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until ``condition`` holds, at most ``seconds``, and only while ``running`` does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def named(processes: list[psutil.Process], prefix: str) -> psutil.Process:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith(prefix):
                return process
    raise AssertionError(f"no process {prefix}")


def launcher_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The launcher: the process itself, into which the script turns."""
    launcher = psutil.Process(process.pid)
    assert "seg_zero.training.launch" in launcher.cmdline()
    return launcher


def alive(processes: list[psutil.Process]) -> list[str]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end between the two looks
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(str(process))
    return found


def check_ended(processes: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := alive(processes)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def broken(folder: Path) -> list[dict[str, Any]]:
    """The metrics of each step, of a run that is ended three times.

    vLLM is killed between a checkpoint and its log, then the launcher between two checkpoints, then Ctrl-C.
    """
    scenes, out = write_scenes(folder, ROWS), folder / "run"

    # A dead vLLM is noticed and named.
    process = background.start(command(scenes, out, UNREACHED))
    saved = out / "checkpoints" / "latest_checkpointed_iteration.txt"
    wait_for(saved.is_file, process)  # of step 2, which is logged only after its weights went to vLLM
    family = descendants(process)
    named(family, "VLLM::EngineCore").kill()
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 1 and "died" in output, output
    check_ended(family, 30)

    # A killed launcher takes everything with it.
    process = background.start(command(scenes, out, UNREACHED))
    wait_for(lambda: len(steps_of(out)) >= 5, process)
    family = descendants(process)
    launcher_of(process).kill()
    check_ended(family, 60)
    process.communicate(timeout=30)

    # Ctrl-C after the next step: a checkpoint, and nothing stays behind.
    (out / "phase.json").unlink()
    process = background.start(command(scenes, out, UNREACHED))
    wait_for((out / "phase.json").is_file, process)
    family = descendants(process)
    launcher_of(process).send_signal(signal.SIGINT)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 130 and "rerun the same command to resume" in output, output
    check_ended(family, 0)

    done = len(steps_of(out))
    assert saved.read_text() == str(done)
    again = background.run(command(scenes, out, done), 120)
    assert again.returncode == 2 and f"already holds a run of {done} steps" in again.stderr
    return steps_of(out)


@needs(uninterrupted, broken)
def test_kills_and_an_orderly_stop_change_nothing(finished: Background) -> None:
    expected, found = finished(uninterrupted).metrics, finished(broken)
    done = len(found)
    assert [step["step"] for step in expected] == list(range(1, STEPS + 1))
    assert [step["step"] for step in found] == list(range(1, done + 1)) and done >= 5
    for one, other in zip(expected, found, strict=False):
        assert one["data/rows_crc32"] == other["data/rows_crc32"], one["step"]
        assert one["actor/lr"] == other["actor/lr"]
        assert ("validation/gIoU" in one) == ("validation/gIoU" in other) == (one["step"] % 2 == 0)
        # Rounding differs with the order in which answers arrive, and could, rarely, change a sampled token.
        assert one["reward/score/mean"] == pytest.approx(other["reward/score/mean"], abs=0.1), one["step"]
        assert one["response_length/mean"] == pytest.approx(other["response_length/mean"], abs=1)
        assert one["actor/grad_norm"] == pytest.approx(other["actor/grad_norm"], rel=0.1), one["step"]
