"""``seg-zero serve``: bad options, and what a signal does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.serving import NEW_TOKENS, until
from helpers.sharded import free_port

from seg_zero.assets import EXAMPLE_IMAGE
from seg_zero.cli.main import main as cli
from seg_zero.policy.model_files import TINY_POLICY, embedded_warning


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "0"], "--port 0"),
        (["--host", "203.0.113.1"], "cannot listen on 203.0.113.1:"),
        (["--timeout", "-1"], "--timeout -1.0"),
        (["--max_open", "0"], "--max_open 0"),
        (["--policy_url", "http://127.0.0.1:9/v1"], "--policy_url http://127.0.0.1:9/v1 does not answer"),
        (["--policy_url", "nonsense"], "--policy_url nonsense does not answer"),
        (["--policy_url", "{openai}", "--policy_name", "other"], "--policy_name other is not served"),
        (["--model", "/nowhere"], "neither a folder nor a hub id"),
        (["--image_size", "100"], "image_size 100"),
        (["--remote_sensing_model", "/nowhere"], "--remote_sensing_model /nowhere does not exist"),
        (["--cors_origins", "app.example"], "--cors_origins app.example is no origin"),
        (["--cors_origins", "*", "https://app.example/path"], "give scheme and host without a path"),
    ],
)
def test_bad_options_end_in_one_line(
    arguments: list[str], words: str, openai: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{openai.server_address[1]}/v1"
    port = [] if "--port" in arguments else ["--port", str(free_port())]
    assert cli(["serve", *port, *(argument.replace("{openai}", url) for argument in arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and words in lines[0]


def test_the_command_serves_and_on_a_signal_answers_what_it_has() -> None:
    port = free_port()
    command = [sys.executable, "-m", "seg_zero.cli", "serve", "--port", str(port), "--max_new_tokens", str(NEW_TOKENS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"serving on http://127.0.0.1:{port}")
        address = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{address}/health").json()["ready"]
        data = EXAMPLE_IMAGE.read_bytes()
        with ThreadPoolExecutor(6) as users:
            asked = [
                users.submit(
                    httpx.post, f"{address}/v1/segment",
                    files={"image": data}, data={"question": "the green circle"}, timeout=60,
                )
                for _ in range(6)
            ]  # fmt: skip
            until(lambda: "seg_zero_open_requests 6.0" in httpx.get(f"{address}/metrics").text)
            process.send_signal(signal.SIGTERM)
            assert [one.result().status_code for one in asked] == [200] * 6
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0 and output == "stopped\n"
        warned, *logged = errors.splitlines()
        assert warned == f"warning: {embedded_warning(str(TINY_POLICY))}"
        lines = [line for line in logged if re.search(r'127.0.0.1 "POST /v1/segment" 200 \d+ ms$', line)]
        assert len(lines) == 6 and all('"GET /' in line for line in logged if line not in lines)
    finally:
        process.kill()
        process.wait()


PARENT = """
import multiprocessing, os, signal, sys, time
from seg_zero.serving.signals import interrupts_kept_from_children


def child(ready):
    signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
    ready.set()
    time.sleep(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    start = multiprocessing.get_context("spawn")  # what vLLM uses
    with interrupts_kept_from_children():
        process = start.Process(target=child, args=[ready := start.Event()])
        process.start()
        ready.wait()
        try:
            os.killpg(0, signal.SIGINT)
            for _ in range(100):  # another thread takes the signal, so that a sleep goes on
                time.sleep(0.05)
        except KeyboardInterrupt:
            process.join()
            print("interrupted", process.exitcode)
"""


def test_ctrl_c_reaches_the_server_but_not_the_engine(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, start_new_session=True)
    assert (done.stdout, done.stderr) == ("interrupted 0\n", "")
