"""Many users of one server on this machine: nothing lost, the answers of the pipeline, latency, throughput, memory.

    python benchmarks/serve.py                                     # 16 users for 60 seconds, embedded models
    python benchmarks/serve.py --users 200 --seconds 120 --max_open 64     # more users than it takes: 429, asked again
    python benchmarks/serve.py -- --engine vllm                    # what follows -- are options of the server

Each user asks one question after another. Every answer must have the text, boxes and masks of the pipeline's.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import httpx
import numpy as np
import psutil

from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.masks import decode_mask
from seg_zero.pipeline import ReasoningSegmenter, SegmentationResult
from seg_zero.policy.loading import quiet_transformers

NEW_TOKENS = 96
SAMPLES = 24


@dataclass
class Seen:
    """What the users saw together."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    worst_iou: float = 1.0
    asked: int = 0
    memory: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def expected_answers() -> list[tuple[bytes, SegmentationResult]]:
    """Encoded scenes with the pipeline's answers to a question about each."""
    pipeline = ReasoningSegmenter.from_pretrained(max_new_tokens=NEW_TOKENS)
    made = []
    for sample in make_samples(seed=77, count=SAMPLES, side=160):
        buffer = io.BytesIO()
        sample.scene.image.save(buffer, format="PNG")
        made.append((buffer.getvalue(), pipeline(sample.scene.image, sample.question.text)))
    return made


def difference(answer: dict[str, object], result: SegmentationResult) -> float:
    """IoU of the two masks; 0 if the texts or the boxes differ."""
    boxes = [item["box"] for item in answer["objects"]]  # type: ignore[attr-defined]
    if answer["text"] != result.text or boxes != [None if o.box is None else list(o.box) for o in result.objects]:
        return 0.0
    mask = decode_mask(answer["mask"])  # type: ignore[arg-type]
    union = (mask | result.mask).sum()
    return 1.0 if union == 0 else float((mask & result.mask).sum() / union)


def use(number: int, url: str, expected: list[tuple[bytes, SegmentationResult]], end: float, seen: Seen) -> None:
    """One user: the next question when the last is answered; asks again after 429."""
    turn = number
    with httpx.Client(timeout=120) as client:
        while time.perf_counter() < end:
            picture, result = expected[turn % len(expected)]
            turn += 1
            start = time.perf_counter()
            answer = ask(client, url, picture, result.question, seen)
            while answer is not None and answer.status_code == 429:
                time.sleep(float(answer.headers["retry-after"]))
                start = time.perf_counter()
                answer = ask(client, url, picture, result.question, seen)
            if answer is None or answer.status_code != 200:
                continue
            spent = time.perf_counter() - start
            iou = difference(answer.json(), result)
            with seen.lock:
                seen.latencies.append(spent)
                seen.wrong += iou < 0.999
                seen.worst_iou = min(seen.worst_iou, iou)


def ask(client: httpx.Client, url: str, picture: bytes, question: str, seen: Seen) -> httpx.Response | None:
    """One request; None if the connection failed."""
    with seen.lock:
        seen.asked += 1
    try:
        answer = client.post(url, files={"image": picture}, data={"question": question})
        outcome: int | str = answer.status_code
    except httpx.HTTPError as error:
        answer, outcome = None, type(error).__name__
    with seen.lock:
        seen.statuses[outcome] += 1
    return answer


def memory_mib(process: psutil.Process) -> float:
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(args: argparse.Namespace, expected: list[tuple[bytes, SegmentationResult]]) -> Seen:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "seg_zero.cli", "serve", "--port", str(port)]
    command += ["--max_new_tokens", str(NEW_TOKENS), "--max_open", str(args.max_open), *args.options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    seen = Seen()
    try:
        assert server.stdout is not None
        line = ""
        while not line.startswith("serving on"):
            line = server.stdout.readline()
            if not line:
                raise SystemExit("the server did not start")
        threading.Thread(target=server.stdout.read, daemon=True).start()
        process = psutil.Process(server.pid)
        warm = expected[: min(8, len(expected))]
        use(0, f"{address}/v1/segment", warm, time.perf_counter() + 5, Seen())  # buffers of the first requests
        start = time.perf_counter()
        users = [
            threading.Thread(target=use, args=(i, f"{address}/v1/segment", expected, start + args.seconds, seen))
            for i in range(args.users)
        ]
        for user in users:
            user.start()
        while any(user.is_alive() for user in users):
            seen.memory.append(memory_mib(process))
            time.sleep(1)
        spent = time.perf_counter() - start
        metrics = httpx.get(f"{address}/metrics").text
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    finally:
        server.kill()
        server.wait()
    report(seen, spent, metrics, code)
    return seen


def report(seen: Seen, spent: float, metrics: str, code: int) -> None:
    values = {line.split(" ")[0]: float(line.split(" ")[1]) for line in metrics.splitlines() if line[:1] != "#"}
    batches = values["seg_zero_policy_batch_size_sum"] / max(1.0, values["seg_zero_policy_batch_size_count"])
    p50, p90, p99 = np.percentile(seen.latencies, (50, 90, 99))
    tenth = max(1, len(seen.memory) // 10)
    print(f"answers:    {len(seen.latencies)} in {spent:.1f} s, {len(seen.latencies) / spent:.1f} per second")
    print(f"statuses:   {dict(seen.statuses)} of {seen.asked} requests")
    print(f"latency, s: median {p50:.2f}, 90% {p90:.2f}, 99% {p99:.2f}, largest {max(seen.latencies):.2f}")
    print(f"batches:    {batches:.1f} requests on average")
    first, last = np.median(seen.memory[tenth : 2 * tenth]), np.median(seen.memory[-tenth:])
    print(f"memory:     {first:.0f} MiB after a tenth, {last:.0f} MiB at the end, {max(seen.memory):.0f} MiB at most")
    print(f"answers unlike the pipeline's: {seen.wrong} (lowest IoU of masks {seen.worst_iou:.6f})")
    print(f"end of the server: {'clean' if code == 0 else f'exit code {code}'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--max_open", type=int, default=64)
    parser.add_argument("options", nargs="*", help="of the server, after --")
    args = parser.parse_args()
    quiet_transformers()
    seen = run(args, expected_answers())
    lost = seen.asked - sum(seen.statuses.values()) + sum(n for s, n in seen.statuses.items() if s not in (200, 429))
    print(f"requests lost: {lost}")
    return 1 if lost or seen.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
