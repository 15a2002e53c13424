"""What a run says while it starts."""

from __future__ import annotations

from pathlib import Path

from seg_zero.training.run_files import RunFiles
from seg_zero.training.supervision.starting import REPEAT_SECONDS, Starting


def test_each_stage_is_named_once_and_again_only_after_a_while(tmp_path: Path) -> None:
    files, running, now = RunFiles(tmp_path), dict[int, str](), [0.0]
    starting = Starting(files, lambda: running, lambda: now[0])
    assert starting.line() is None  # nothing was said yet
    files.write_stage("starting Ray")
    now[0] = 3.4
    assert starting.line() == "[   3 s] starting Ray"
    assert starting.line() is None
    files.write_stage("loading the policy (FSDP)")
    assert starting.line() == "[   3 s] loading the policy (FSDP)"
    now[0] += REPEAT_SECONDS
    assert starting.line() == "[  33 s] still loading the policy (FSDP)"
    running[7] = "the vLLM engine"
    assert starting.line() == "[  33 s] starting vLLM"
    now[0] = 100
    files.write_phase(1, "sampling answers (vLLM)")
    assert starting.line() == "[ 100 s] started; step 1, sampling answers (vLLM)"
    files.write_phase(1, "updating the policy (FSDP)")
    assert starting.line() is None and files.read_stage() is None


def test_stages_of_an_earlier_start_are_forgotten(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    files.write_stage("starting Ray")
    files.clear()
    assert files.read_stage() is None
