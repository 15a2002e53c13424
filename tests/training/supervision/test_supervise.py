"""Starting, ending and watching the processes of a run; the processes here are small stand-ins for verl."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from omegaconf import DictConfig

from seg_zero.errors import InputError
from seg_zero.training.launch.config import load_config
from seg_zero.training.run_files import RunFiles
from seg_zero.training.supervision import supervise
from seg_zero.training.supervision.watchdog import Watchdog

# A child that leaves a grandchild of its own session behind, as Ray and vLLM do; both write their numbers.
KEEPER = ["-m", "seg_zero.training.supervision.keeper"]
TREE = """
import os, subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {grandchild.pid}")
time.sleep(float(sys.argv[2]))
"""

# A child that starts another process when it is asked to end.
LATE = """
import os, signal, subprocess, sys, time
def end(*_):
    late = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    open(sys.argv[1], "w").write(f"{os.getpid()} {late.pid}")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + ".ready", "w").close()
time.sleep(600)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start_tree(tmp_path: Path, seconds: float) -> tuple[subprocess.Popen[bytes], list[int]]:
    numbers = tmp_path / "numbers"
    command = [
        sys.executable,
        "-m",
        "seg_zero.training.supervision.keeper",
        sys.executable,
        "-c",
        TREE,
        str(numbers),
        str(seconds),
    ]
    keeper = subprocess.Popen(command)
    wait_for(lambda: numbers.is_file() and len(numbers.read_text().split()) == 2)
    return keeper, [int(number) for number in numbers.read_text().split()]


def lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(numbers: list[int], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(map(lives, numbers)):
            return True
        time.sleep(0.1)
    return False


def test_nothing_outlives_a_run_that_ends(tmp_path: Path) -> None:
    keeper, numbers = start_tree(tmp_path, 0.1)
    assert keeper.wait(20) == 0 and gone(numbers)


def test_nothing_outlives_a_run_that_is_told_to_end(tmp_path: Path) -> None:
    keeper, numbers = start_tree(tmp_path, 600)
    keeper.terminate()
    assert keeper.wait(20) == 128 + signal.SIGTERM and gone(numbers)


def test_a_second_signal_does_not_save_what_ignores_the_first(tmp_path: Path) -> None:
    """A killed launcher with threads sends several."""
    number = tmp_path / "number"
    deaf = "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "open(sys.argv[1], 'w').write(f'{os.getpid()} '); time.sleep(600)"
    nest = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {deaf!r}, {str(number)!r}])"
    keeper = subprocess.Popen([sys.executable, *KEEPER, sys.executable, "-c", nest])
    wait_for(lambda: number.is_file() and number.read_text().endswith(" "))
    for _ in range(3):
        keeper.terminate()
        time.sleep(0.3)
    assert keeper.wait(20) == 128 + signal.SIGTERM and gone([int(number.read_text())], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a process to which orphans fall")
def test_what_is_started_while_a_run_ends_ends_too(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    nest = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LATE!r}, {str(numbers)!r}])"
    keeper = subprocess.Popen([sys.executable, *KEEPER, sys.executable, "-c", nest])
    wait_for(Path(f"{numbers}.ready").is_file)
    keeper.terminate()
    keeper.wait(20)
    assert gone([int(number) for number in numbers.read_text().split()])


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal of Linux")
def test_nothing_outlives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    launcher = f"""
import subprocess, sys, time
command = [sys.executable, *{KEEPER}, sys.executable, "-c", {TREE!r}, {str(numbers)!r}, "600"]
subprocess.Popen(command)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", launcher])
    wait_for(lambda: numbers.is_file() and len(numbers.read_text().split()) == 2)
    process.kill()
    process.wait()
    assert gone([int(number) for number in numbers.read_text().split()])


def test_a_folder_holds_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_LOCK_SECONDS", 0.6)
    with (
        supervise.only_run(tmp_path),
        pytest.raises(InputError, match="another run writes to"),
        supervise.only_run(tmp_path),
    ):
        pass
    with supervise.only_run(tmp_path):
        pass


def test_first_signal_asks_for_the_end_and_the_second_ends(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    stop = supervise._Stop(files)
    with pytest.raises(SystemExit):  # nothing to save yet
        stop(signal.SIGINT, None)
    files.write_phase(3, "sampling")
    stop(signal.SIGINT, None)
    assert files.stop_requested() and stop.asked
    with pytest.raises(SystemExit):
        stop(signal.SIGINT, None)
    files.clear()
    assert not files.stop_requested() and files.read_phase() is None


def test_a_dead_part_of_a_run_is_named(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("starting\n")
    alive = {1: "the vLLM engine", 2: "an FSDP worker"}
    watchdog = Watchdog(log, minutes=60, processes=lambda: dict(alive), grace_seconds=0)
    assert watchdog.verdict() is None
    del alive[1]
    watchdog._next_look = 0.0
    assert watchdog.verdict() == "the vLLM engine (process 1) died and the run waits for it"


def test_a_lost_machine_is_named(tmp_path: Path) -> None:
    """Of a cluster the launcher sees no processes but its own; Ray's line in the log tells."""
    log = tmp_path / "train.log"
    log.write_text("starting\n")
    watchdog = Watchdog(log, minutes=60, grace_seconds=0)
    assert watchdog.verdict() is None
    log.write_text("starting\n(raylet) The node with node name: 10.0.0.2 has been marked dead because the detector\n")
    assert watchdog.verdict() == "a machine of the Ray cluster died and the run waits for it"


def test_an_ordinary_end_names_no_dead_part(tmp_path: Path) -> None:
    """Processes vanish at any end; only with a line in the log about a death was that the cause."""
    log = tmp_path / "train.log"
    log.write_text("starting\n")
    alive = {1: "the vLLM engine"}
    watchdog = Watchdog(log, minutes=60, processes=lambda: dict(alive))
    watchdog.verdict()
    alive.clear()
    watchdog._next_look = 0.0
    watchdog.verdict()
    assert watchdog.died() is None
    log.write_text("starting\nvllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue\n")
    assert watchdog.died() == "the vLLM engine (process 1)"


def test_phases_are_said_in_words(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    files.write_phase(12, "sampling answers (vLLM)")
    assert files.read_phase() == "step 12, sampling answers (vLLM), for 0 minutes"


def test_essential_processes_are_recognised_by_title() -> None:
    code = "import time; time.sleep(30)"
    process = subprocess.Popen(["VLLM::EngineCore", "-c", code], executable=sys.executable)
    try:
        from seg_zero.training.supervision import processes

        deadline = time.monotonic() + 5
        while processes.essential().get(process.pid) != "the vLLM engine":
            assert time.monotonic() < deadline
        os.kill(process.pid, signal.SIGKILL)
        while process.pid in processes.essential():
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait()


LATE_RAY = "Exception: The current node timed out during startup. This could happen because the raylet failed."


@pytest.fixture(scope="module")
def tiny_run() -> DictConfig:
    return load_config(["policy=tiny", "data=synthetic", "reward=seg_zero", "hardware=cpu_2core", "schedule=tiny"])


@pytest.mark.parametrize(
    ("ends", "code", "starts"),
    [
        ([LATE_RAY, ""], 0, 2),
        ([LATE_RAY, LATE_RAY, ""], 1, 2),
        ([LATE_RAY, "ValueError: no such layer"], 1, 2),
        (["ValueError: no such layer", ""], 1, 1),
    ],
    ids=["then starts", "late twice", "then fails", "another error"],
)
def test_a_run_whose_ray_is_too_late_starts_once_more(
    ends: list[str],
    code: int,
    starts: int,
    tiny_run: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    left = iter(ends)
    start = supervise.processes.start

    def child(_: object, environment: dict[str, str], log: Path, lock: int) -> subprocess.Popen[bytes]:
        error = next(left)
        return start([sys.executable, "-c", f"import sys; sys.exit({error!r} or 0)"], environment, log, lock)

    monkeypatch.setattr(supervise.processes, "start", child)
    for name in ("adopt_orphans", "kill_descendants"):  # of this process, which has others to keep
        monkeypatch.setattr(supervise.processes, name, lambda: None)
    assert supervise.supervise(tiny_run, tmp_path, 1) == code
    assert len(ends) - len(list(left)) == starts
    printed = capfd.readouterr()
    assert ("starting once more" in printed.out) == (starts == 2)
    assert printed.err == "" if code == 0 else ends[starts - 1] in printed.err
