"""Takes the place of ``python``: has fork_server.py run the script, and lives as long as it does.

    python -I -S fork_client.py SOCKET SCRIPT ARGUMENTS ...
    python -I -S fork_client.py SOCKET -c CODE ARGUMENTS ...

A run starts it a dozen times, so it imports nothing but small modules of the standard library.
"""

import array
import json
import os
import signal
import socket
import sys


def open_files() -> list[int]:
    """The descriptors that this process inherited."""
    return sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


def main() -> int:
    numbers = open_files()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(sys.argv[1])
    request = {
        "arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ), "files": numbers,
    }  # fmt: skip
    text = json.dumps(request).encode()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))
    connection.sendmsg([b"%d\n" % len(text)], [rights])
    connection.sendall(text)
    answers = connection.makefile("rb")
    child = int(answers.readline())
    signal.signal(signal.SIGTERM, lambda number, _frame: os.kill(child, number))
    for number in numbers:
        os.close(number)  # a pipe of the script must not stay open here after it ended
    status = answers.readline()  # comes when the child ends; without a status if it was killed
    return int(status) if status else 128 + signal.SIGKILL


sys.exit(main())
