"""Starts the processes of a run from one that has imported everything they need.

    python -m seg_zero.training.supervision.fork_server PROGRAM LISTENING_SOCKET

Ray and vLLM start each process as a new interpreter, and a dozen of them import torch, transformers, verl and vLLM: 90
seconds of processor time, and 4 GiB. Here one process imports them once. What the others take for ``python`` (Ray's
``py_executable``, ``multiprocessing.set_executable``) is fork_client.py, which hands its command line, environment and
open files to the server; the server forks, and the copy becomes the process that was asked for.

Upstream: Python's own fork server serves only multiprocessing, vLLM insists on new interpreters, and Ray starts nothing
else. Can go when Ray has a fork server.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from seg_zero.training.supervision.processes import end_with_parent

# What the processes of a run import at their start. Ray's library reads its environment when it is loaded, and only a
# worker has the whole of it, so Ray and what imports it wait for the first client.
WITHOUT_RAY = (
    "torch",
    "tensordict",
    "pandas",
    "datasets",
    "scipy.signal",
    "openai.types.responses",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "vllm",
)
WITH_RAY = (
    "ray._private.workers.default_worker",
    "verl.trainer.main_ppo",
    "verl.experimental.agent_loop",
    "verl.experimental.reward_loop",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "seg_zero.training.trainer.trainer",
    "seg_zero.training.rollout.agent_loop",
    "seg_zero.training.engine.engine",
)
_CLIENT = Path(__file__).with_name("fork_client.py")
_MOST_FILES = 200
_OUT_OF_THE_WAY = 300  # a file descriptor that no client asks for


def start(folder: Path) -> str:
    """Start a server that ends with this process; returns the path of the program that takes the place of ``python``.

    folder: an empty one with a short path, for the program and the socket.
    """
    program, address = folder / "python", folder / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(address))
        listener.listen(64)  # clients wait until the imports are done
        command = [sys.executable, "-m", "seg_zero.training.supervision.fork_server", str(program)]
        command.append(str(listener.fileno()))
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(listener.fileno(),))
    threading.Thread(target=_end_without, args=(server,), daemon=True).start()
    client = shlex.join([sys.executable, "-I", "-S", str(_CLIENT), str(address)])
    program.write_text(f'#!/bin/sh\nexec {client} "$@"\n')
    program.chmod(0o700)
    return str(program)


def _end_without(server: subprocess.Popen[bytes]) -> NoReturn:
    """End this process if the server ends before it: Ray would try to start workers for minutes."""
    code = server.wait()
    print(f"RuntimeError: the process that starts the others ended with {code}", file=sys.stderr, flush=True)
    os._exit(1)


def serve(program: str, listener: socket.socket) -> NoReturn:
    """Import everything, then fork once for each client."""
    multiprocessing.set_executable(program)
    _import(WITHOUT_RAY)
    if "ray" in sys.modules:
        raise RuntimeError(f"one of {', '.join(WITHOUT_RAY)} imports ray; it belongs into WITH_RAY")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the children
    while True:
        connection, _ = listener.accept()
        try:
            request, files = _receive(connection)
        except (OSError, ValueError):  # the client was killed before its request was complete
            connection.close()
            continue
        if "ray" not in sys.modules:
            _take_environment(request)
            _import(WITH_RAY)
        child = os.fork()
        if child == 0:
            listener.close()
            _become(request, files, connection)
        for file in files:
            os.close(file)
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % child)
        connection.close()  # the child holds it open as long as it lives


def _import(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # collections in the children leave the shared pages alone


def _take_environment(request: dict[str, Any]) -> None:
    """Change only what differs: Ray and vLLM find the place of a process's title by its first variable."""
    wanted = request["environment"]
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update({name: value for name, value in wanted.items() if os.environ.get(name) != value})


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What fork_client.py sends: a line with the length of the JSON text, with it the open files, then the text."""
    files = array.array("i")
    head, ancillary, _, _ = connection.recvmsg(32, socket.CMSG_SPACE(_MOST_FILES * files.itemsize))
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(data)
    size, text = head.split(b"\n", 1)
    while len(text) < int(size):
        part = connection.recv(1 << 16)
        if not part:
            raise ValueError("the request is incomplete")
        text += part
    return json.loads(text), list(files)


def _become(request: dict[str, Any], files: list[int], connection: socket.socket) -> NoReturn:
    """Turn into the process that the client was asked to be; runs its script and exits."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    client = _place(files, request["files"], connection)
    status = 1
    try:
        threading.Thread(target=_end_with_client, args=(client,), daemon=True).start()
        os.chdir(request["folder"])
        _take_environment(request)
        _run(request["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        os.write(client, b"%d\n" % status)
    sys.exit(status)


def _place(files: list[int], numbers: list[int], connection: socket.socket) -> int:
    """Give each open file its number in the client; returns the new number of the connection."""
    received = (connection.detach(), *files)
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY) for file in received]
    for file in received:
        os.close(file)
    for file, number in zip(moved[1:], numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    return moved[0]


def _end_with_client(client: int) -> None:
    """Block until the client ends; whoever started it and killed it meant this process."""
    os.read(client, 1)
    os._exit(128 + signal.SIGKILL)


def _run(arguments: list[str]) -> None:
    """Do what ``python ARGUMENTS`` does, for a script or ``-c CODE``; options before ``-c`` are the server's own."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    if "-c" in arguments:
        place = arguments.index("-c")
        code, name, sys.argv = arguments[place + 1], "<string>", ["-c", *arguments[place + 2 :]]
    else:
        name, sys.argv = arguments[0], arguments
        code = Path(name).read_text()
        main.__dict__["__file__"] = name
    main.__dict__["__builtins__"] = __builtins__
    exec(compile(code, name, "exec"), main.__dict__)


if __name__ == "__main__":
    end_with_parent()
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
