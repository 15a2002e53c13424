"""A process that the fork server makes is the one that ``python`` would have made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

SHOW = """
import json, os, sys
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "variable": os.environ.get("FORK_TEST"),
    "path": os.environ.get("PATH"), "name": __name__, "imported": "torch" in sys.modules, "input": sys.stdin.read(),
    "files": {name: os.readlink("/proc/self/fd/" + name) for name in os.listdir("/proc/self/fd")
              if os.path.exists("/proc/self/fd/" + name)},
}))
print("to standard error", file=sys.stderr)
"""
# What a process does that starts others by multiprocessing, as vLLM does: they are copies too.
POOL = """
import multiprocessing, sys
def loaded(_): return "torch" in sys.modules
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(loaded, [0]))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The program that takes the place of ``python``; its server belongs to a process that ends with the tests."""
    folder = tmp_path_factory.mktemp("fork")
    starter = (
        "import sys; from pathlib import Path; from seg_zero.training.supervision import fork_server; "
        f"print(fork_server.start(Path({str(folder)!r})), flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", starter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
    )
    assert owner.stdout is not None and owner.stdin is not None
    yield owner.stdout.readline().strip()
    server = psutil.Process(owner.pid).children()
    owner.stdin.close()
    assert owner.wait(20) == 0
    _, left = psutil.wait_procs(server, timeout=20)
    assert server and not left


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "VERL_PLATFORM": "cpu", "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1", **more}


def run(python: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def test_a_copy_is_what_python_would_have_started(python: str, tmp_path: Path) -> None:
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    result = run(python, str(script), "--option", "a b", input="typed", cwd=tmp_path, env=_environment(FORK_TEST="é"))
    assert (result.returncode, result.stderr) == (0, "to standard error\n")
    shown = json.loads(result.stdout)
    assert shown["arguments"] == [str(script), "--option", "a b"] and shown["name"] == "__main__"
    assert (shown["folder"], shown["variable"], shown["input"]) == (str(tmp_path), "é", "typed")
    assert shown["imported"]
    sockets = [name for name, target in shown["files"].items() if target.startswith("socket:")]
    assert len(sockets) == 1, shown["files"]  # to its own client, and none to the server or to another
    unset = {name: value for name, value in _environment().items() if name != "PATH"}
    assert json.loads(run(python, str(script), input="", env=unset).stdout)["path"] is None


def test_what_a_copy_starts_by_multiprocessing_is_a_copy(python: str, tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    result = run(python, str(tmp_path / "pool.py"), env=_environment())
    assert (result.returncode, result.stdout) == (0, "[True]\n"), result.stderr


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import sys; sys.exit('a message')", 1),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
    ],
)
def test_the_exit_status_is_that_of_the_code(python: str, code: str, status: int) -> None:
    assert run(python, "-c", code, env=_environment()).returncode == status


def test_an_uncaught_exception_is_printed(python: str) -> None:
    assert "ZeroDivisionError" in run(python, "-c", "1 / 0", env=_environment()).stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_client_that_is_killed_takes_the_copy_with_it(python: str, number: signal.Signals) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    client = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, text=True, env=_environment())
    assert client.stdout is not None
    copy = psutil.Process(int(client.stdout.readline()))
    client.send_signal(number)
    client.wait(10)
    copy.wait(10)


def test_a_client_that_ends_before_it_asked_harms_nobody(python: str) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(Path(python).with_name("socket")))
        client.send(b"100\n{")
    assert run(python, "-c", "", env=_environment()).returncode == 0


def test_a_run_ends_when_its_server_does(tmp_path: Path) -> None:
    """Ray would go on for minutes, asking for workers."""
    code = (
        "import time; from pathlib import Path; from seg_zero.training.supervision import fork_server; "
        f"fork_server.start(Path({str(tmp_path)!r})); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=_environment())
    deadline = time.monotonic() + 30
    while not (children := psutil.Process(owner.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children[0].kill()
    assert owner.communicate(timeout=20)[1].splitlines()[-1].startswith("RuntimeError: the process that starts")
    assert owner.returncode == 1
