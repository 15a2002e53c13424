"""Runs verl as a child process, follows its metrics, and stops it when it hangs or is asked to end."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig

from seg_zero.command_line import quoted
from seg_zero.errors import print_error
from seg_zero.files import locked
from seg_zero.training.environment import joins_cluster, training_environment
from seg_zero.training.run_files import RunFiles
from seg_zero.training.settings import RunSettings, read
from seg_zero.training.supervision import processes
from seg_zero.training.supervision.starting import Starting
from seg_zero.training.supervision.watchdog import Watchdog, last_error
from seg_zero.training.trainer.metrics_log import Metrics, MetricsLog, follow

_POLL_SECONDS = 0.5
_LOCK_SECONDS = 20.0
_CLUSTER_SECONDS = 6.0
# Ray 2.60.0 gives the agents of a node 15 s to start, which no setting changes; two runs that start at once on two
# cores can need more. Goes when Ray waits as long as it is told to.
_TOO_LATE = "timed out during startup"
_RAY_TOO_LATE = -1


@contextlib.contextmanager
def only_run(output: Path) -> Iterator[int]:
    """Hold the folder of a run; yields the descriptor of its lock, which the run's keeper shares.

    Waits briefly for a run that is just ending. Raises InputError if another run is active there.
    """
    busy = f"another run writes to {output}; stop it, or give trainer.experiment_name=NEW"
    waiting = f"waiting for an earlier run in {output} to end"
    with locked(output / "lock", busy, _LOCK_SECONDS, waiting) as descriptor:
        yield descriptor


class _Stop:
    """What Ctrl-C and SIGTERM mean: first the end of the step, then at once."""

    def __init__(self, files: RunFiles) -> None:
        self._files, self.asked = files, False

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        if self.asked or self._files.read_phase() is None:  # before the first step there is nothing to save
            raise SystemExit(128 + signum)
        self.asked = True
        self._files.request_stop()
        print("\nstopping after this step, with a checkpoint; press Ctrl-C again to stop at once", flush=True)


def supervise(config: DictConfig, output: Path, total_steps: int, resumed: Metrics | None = None) -> int:
    """Run verl to its end; returns the exit code. No process of it survives, however the run ends.

    resumed: the metrics of the step to resume from, as known when its checkpoint was written.
    """
    started = time.time()
    with only_run(output) as lock:
        code = _run(config, output, total_steps, resumed, lock, may_be_late=True)
        if code == _RAY_TOO_LATE:
            print("Ray did not start in the time it gives itself, as on a busy machine; starting once more", flush=True)
            code = _run(config, output, total_steps, resumed, lock, may_be_late=False)
    if code == 0:
        print(f"done in {time.time() - started:.0f} s: {output}", flush=True)
    return code


def _run(
    config: DictConfig, output: Path, total_steps: int, resumed: Metrics | None, lock: int, may_be_late: bool
) -> int:
    """One start of verl, followed to its end; returns the exit code, or, if it may be, ``_RAY_TOO_LATE``."""
    files, log, started = RunFiles(output), output / "train.log", time.time()
    command = [sys.executable, "-m", "seg_zero.training.supervision.keeper"]
    command += [sys.executable, "-m", "seg_zero.training.run", "--config-path", str(output), "--config-name", "config"]
    command += [f"hydra.run.dir={quoted(output)}", "hydra.output_subdir=null", "hydra/job_logging=none"]
    environment = training_environment(config, output)
    files.clear()
    # On a standing cluster almost none of the run's processes are below this one.
    joined = joins_cluster(config)
    memory = dict if joined else processes.private_memory
    metrics = MetricsLog(Path(environment["VERL_FILE_LOGGER_PATH"]), output / "metrics.jsonl", memory, resumed)
    stop = _Stop(files)
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    processes.adopt_orphans()
    try:
        child = processes.start(command, environment, log, lock)
        watchdog = Watchdog(log, read(config, RunSettings).watchdog_minutes, processes.essential)
        starting = Starting(files, processes.essential)
        code = None
        while code is None:
            code = child.poll()  # before reading the metrics, so that the last step is seen
            if (line := starting.line()) is not None:
                print(line, flush=True)
            if follow(metrics, total_steps, lambda line: print(line, flush=True)):
                watchdog.sign_of_life()
            verdict = watchdog.verdict() if code is None else None
            if verdict is not None:
                phase = files.read_phase() or files.read_stage() or "starting up"
                print_error(f"{verdict} ({phase}); stopped. Last error: {last_error(log)}; log: {log}")
                return 1
            time.sleep(_POLL_SECONDS)
    finally:
        for number in before:  # one more Ctrl-C must not leave processes behind
            signal.signal(number, signal.SIG_IGN)
        processes.kill_descendants()
        if joined:  # with its driver gone the cluster ends the workers, which still hold their shared memory
            time.sleep(_CLUSTER_SECONDS)
        processes.remove_shared_memory(since=started)
        metrics.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        cause = last_error(log)
        if may_be_late and _TOO_LATE in cause and not stop.asked:
            return _RAY_TOO_LATE
        died = watchdog.died()
        print_error(f"training failed: {f'{died} died; last error: ' if died else ''}{cause}; log: {log}")
        return 1
    if stop.asked:
        print(f"stopped as requested; rerun the same command to resume: {output}", flush=True)
        return 130
    return 0
