"""A run that is killed and started again does what an uninterrupted run does."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training_scripts" / "run_tiny_cpu.sh"
STEPS = 6
UNREACHED = 40  # steps of the broken run: more than it ever does, as a run that ends by itself leaves nothing to break

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from seg_zero.data.synthetic.rows import TRAIN_SEED, write_split

    path = tmp_path_factory.mktemp("data") / "scenes.parquet"
    write_split(path, TRAIN_SEED, 28)  # two epochs at 6 prompts a step: the order of the second counts too
    return path


def command(scenes: Path, out: Path, steps: int = STEPS) -> list[str]:
    batch = ["data.train_batch_size=6", "worker.rollout.n=4", "data.val_max_samples=6", "trainer.test_freq=2"]
    batch += ["worker.actor.micro_batch_size_per_device_for_update=8", "worker.actor.optim.lr=1e-3"]
    batch += ["worker.actor.micro_batch_size_per_device_for_experience=8", "trainer.save_freq=2"]
    batch += ["trainer.val_before_train=false"]
    files = [f"data.train_files={scenes}", f"data.val_files={scenes}", f"output_dir={out}"]
    return ["bash", str(SCRIPT), *files, *batch, f"trainer.total_training_steps={steps}"]


def start(scenes: Path, out: Path, steps: int = STEPS) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(scenes, out, steps), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until ``condition`` holds, at most ``seconds``, and only while ``running`` does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def steps_of(out: Path) -> list[dict[str, Any]]:
    path = out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


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
    assert "seg_zero.training.launch.start" in launcher.cmdline()
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


def test_kills_and_an_orderly_stop_change_nothing(scenes: Path, tmp_path: Path) -> None:
    """One folder: vLLM is killed between a checkpoint and its log, later the launcher, then Ctrl-C; the other: not."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start(scenes, whole)
    assert process.wait(400) == 0, process.communicate()[0]

    # A dead vLLM is noticed and named.
    process = start(scenes, broken, UNREACHED)
    saved = broken / "checkpoints" / "latest_checkpointed_iteration.txt"
    wait_for(saved.is_file, process)  # of step 2, which is logged only after its weights went to vLLM
    family = descendants(process)
    named(family, "VLLM::EngineCore").kill()
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 1 and "died" in output, output
    check_ended(family, 30)

    # A killed launcher takes everything with it.
    process = start(scenes, broken, UNREACHED)
    wait_for(lambda: len(steps_of(broken)) >= 5, process)
    family = descendants(process)
    launcher_of(process).kill()
    check_ended(family, 60)
    process.communicate(timeout=30)

    # Ctrl-C after the next step: a checkpoint, and nothing stays behind.
    (broken / "phase.json").unlink()
    process = start(scenes, broken, UNREACHED)
    wait_for(lambda: (broken / "phase.json").is_file(), process)
    family = descendants(process)
    launcher_of(process).send_signal(signal.SIGINT)
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 130 and "the same command goes on" in output, output
    check_ended(family, 0)

    expected, found = steps_of(whole), steps_of(broken)
    done = len(found)
    assert [step["step"] for step in expected] == list(range(1, STEPS + 1))
    assert [step["step"] for step in found] == list(range(1, done + 1)) and done >= 5
    assert saved.read_text() == str(done)
    for one, other in zip(expected, found, strict=False):
        assert one["data/rows_crc32"] == other["data/rows_crc32"], one["step"]
        assert one["actor/lr"] == other["actor/lr"]
        assert ("validation/gIoU" in one) == ("validation/gIoU" in other) == (one["step"] % 2 == 0)
        # Rounding differs with the order in which answers arrive, and could, rarely, change a sampled token.
        assert one["reward/score/mean"] == pytest.approx(other["reward/score/mean"], abs=0.1), one["step"]
        assert one["response_length/mean"] == pytest.approx(other["response_length/mean"], abs=1)
        assert one["actor/grad_norm"] == pytest.approx(other["actor/grad_norm"], rel=0.1), one["step"]
    again = subprocess.run(command(scenes, broken, done), capture_output=True, text=True, check=False)
    assert again.returncode == 2 and f"already holds a run of {done} steps" in again.stderr
