"""How a command ends: exit code and one line, printed in one place."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from seg_zero.errors import InputError, print_error, run_command

ROOT = Path(__file__).resolve().parents[1]


def refuse(_: Sequence[str]) -> int:
    raise InputError("--count 0 must be at least 1")


def interrupt(_: Sequence[str]) -> int:
    raise KeyboardInterrupt


def interrupt_a_run(_: Sequence[str]) -> int:
    raise KeyboardInterrupt("stopped before the run was started")


@pytest.mark.parametrize(
    ("command", "code", "printed"),
    [
        (len, 2, ""),
        (refuse, 2, "error: --count 0 must be at least 1\n"),
        (interrupt, 130, "stopped\n"),
        (interrupt_a_run, 130, "stopped before the run was started\n"),
    ],
    ids=["own code", "bad input", "Ctrl-C", "Ctrl-C with words"],
)
def test_exit_code_and_line(command: object, code: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command, ["a", "b"]) == code  # type: ignore[arg-type]
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", printed)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_closes_the_output_ends_a_command_quietly(lines: int, unbuffered: str) -> None:
    code = (
        f"import sys; from seg_zero.errors import run_command; sys.exit(run_command(lambda _: print('x\\n' * {lines})))"
    )
    reading, output = os.pipe()
    os.close(reading)
    given = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=given)
    os.close(output)
    assert (done.returncode, done.stderr) == (1, "")


def test_other_broken_pipes_are_told() -> None:
    def send(_: Sequence[str]) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run_command(send, [])


def test_a_place_that_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def write(_: Sequence[str]) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", "/data/out")

    assert run_command(write, []) == 2
    assert capsys.readouterr().err == (
        "error: /data/out cannot be used (Permission denied); change its permissions or give another place\n"
    )
    with pytest.raises(FileNotFoundError):
        run_command(lambda _: open("/nowhere/at/all").read(), [])  # type: ignore[arg-type, return-value]  # noqa: SIM115


def test_names_that_are_not_utf8_can_be_printed() -> None:
    code = "import os, sys; from seg_zero.errors import run_command; sys.exit(run_command(lambda a: print(a[0]) or 0))"
    done = subprocess.run(
        [sys.executable, "-c", code, b"caf\xe9.json"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"caf\\udce9.json\n"), done.stderr


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda _: 1 // 0, [])


def test_details_follow_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("2 of 3 failed:", "one", "two")
    assert capsys.readouterr().err == "error: 2 of 3 failed:\n  one\n  two\n"


def test_error_lines_are_printed_in_one_place() -> None:
    folders = ("seg_zero", "rewards", "training_scripts", "inference_scripts")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    printing = [path for path in files if re.search(r"""["']error: """, path.read_text())]
    assert printing == [ROOT / "seg_zero" / "errors.py"]
