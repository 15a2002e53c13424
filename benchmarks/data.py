"""How opening, reading and filtering a large dataset compares with reading it the straightforward way.

    python benchmarks/data.py                               # 100,000 rows of 112 x 112 pixels
    python benchmarks/data.py --rows 5000 --side 840        # published image size

Writes a parquet file under --folder (kept for the next run), then measures, each in a separate process:
seconds to open, memory after opening and after reading random rows, milliseconds per random row, and the
prompt-length filter with and without its cache. The two straightforward ways in the same run are
``pyarrow.parquet.read_table(FILE).to_pylist()`` and ``datasets.load_dataset("parquet", data_files=FILE)``.
Memory is the growth of what the process itself holds (resident, without pages of files that the system keeps).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.data.rows import Row, write_rows
from seg_zero.data.synthetic.rows import sample_to_row
from seg_zero.data.synthetic.scenes import make_samples

SCENES = 200  # different pictures; rows repeat them with questions of their own
ADJECTIVES = ("small", "large", "old", "new", "open", "empty", "broken", "wooden", "metal", "painted", "wet", "round")
NOUNS = ("cup", "chair", "lamp", "door", "car", "tree", "bag", "box", "shoe", "plate", "bird", "dog", "sign", "boat")


def photo_like(image: Image.Image, side: int) -> bytes:
    """The picture enlarged and grained, so that as JPEG it takes as many bytes as a photo."""
    grain = np.random.default_rng(0).normal(0, 10, (side, side, 3))
    pixels = np.asarray(image.resize((side, side))) + grain
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def make_rows(count: int, side: int) -> Iterator[Row]:
    """Rows with a question each; nearly all questions differ."""
    rng = random.Random(0)
    scenes = [sample_to_row(sample, "scene") for sample in make_samples(5, min(SCENES, count), 112)]
    if side != 112:
        scenes = [replace(row, image_bytes=photo_like(row.image(), side), mask=None) for row in scenes]
    for number in range(count):
        words = [f"the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}" for _ in range(rng.randint(1, 6))]
        yield replace(scenes[number % len(scenes)], id=f"row-{number}", problem=" beside ".join(words))


def own_memory() -> float:
    """MiB that this process holds, without pages of mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return float(fields["RssAnon"].split()[0]) / 1024


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _lazily(path: str) -> tuple[Callable[[], Any], Callable[[Any, int], bytes]]:
    from seg_zero.data.source import open_rows

    return lambda: open_rows(path), lambda rows, i: rows[i].image_bytes


def _pyarrow(path: str) -> tuple[Callable[[], Any], Callable[[Any, int], bytes]]:
    import pyarrow.parquet as pq

    return lambda: pq.read_table(path).to_pylist(), lambda rows, i: rows[i]["image"]["bytes"]


def _datasets(path: str) -> tuple[Callable[[], Any], Callable[[Any, int], bytes]]:
    import datasets

    datasets.disable_progress_bars()
    cache = tempfile.mkdtemp(dir=Path(path).parent)  # empty: the first opening, as open_rows' is
    return (
        lambda: datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=cache),
        lambda rows, i: rows[i]["image"]["bytes"],
    )


WAYS = {"open_rows": _lazily, "pyarrow to_pylist": _pyarrow, "datasets.load_dataset": _datasets}


def measure_way(way: str, path: str, reads: int) -> dict[str, float]:
    opening, read = WAYS[way](path)
    before = own_memory()
    rows, seconds = timed(opening)
    opened = own_memory()
    rng = random.Random(1)
    places = [rng.randrange(len(rows)) for _ in range(reads)]
    for place in places[: reads // 10]:
        read(rows, place)
    warm = own_memory()
    checksum, reading = timed(lambda: sum(len(read(rows, place)) for place in places))
    return {
        "seconds to open": seconds,
        "MiB after opening": opened - before,
        f"MiB after {reads // 10} rows": warm - before,
        f"MiB after {reads} more": own_memory() - before,
        "ms per random row": 1000 * reading / reads,
        "checksum": checksum,
    }


def measure_filter(path: str) -> dict[str, float]:
    """Seconds of the prompt-length filter: row by row, in batches, and from its cache."""
    from transformers import AutoProcessor

    from seg_zero.data.prompt_lengths import PromptLengths, prompt_lengths
    from seg_zero.data.source import open_rows
    from seg_zero.policy.model_files import TINY_POLICY, default_spec
    from seg_zero.prompting import build_messages

    processor = AutoProcessor.from_pretrained(TINY_POLICY)
    spec = replace(default_spec(str(TINY_POLICY)), template="multi")
    source = open_rows(path)
    questions = source.column("problem")
    sample = questions[: max(1, len(questions) // 20)]

    def row_by_row() -> list[int]:
        counts = []
        for question in sample:
            messages = build_messages(question, spec)
            text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            counts.append(len(processor.tokenizer(text, add_special_tokens=False)["input_ids"]))
        return counts

    single, seconds = timed(row_by_row)
    first, computing = timed(lambda: prompt_lengths(source, PromptLengths(processor, spec, {})))
    again, cached = timed(lambda: prompt_lengths(open_rows(path), PromptLengths(processor, spec, {})))
    assert (first == again).all() and len({int(a) - b for a, b in zip(first, single, strict=False)}) == 1
    return {
        "row by row (from 1 in 20 rows)": seconds * len(questions) / len(sample),
        "first": computing,
        "cached": cached,
        "different questions": len(set(questions)),
    }


def apart(*arguments: str, cache: str) -> dict[str, float]:
    """What this file prints as JSON when it runs by itself with ``arguments``."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--side", type=int, default=112, help="image side in pixels")
    parser.add_argument("--reads", type=int, default=1000, help="random rows to read")
    parser.add_argument("--folder", default="outputs/benchmark_data")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    path = Path(args.folder) / f"rows_{args.rows}_{args.side}.parquet"
    if args.part:
        result = measure_filter(str(path)) if args.part == "filter" else measure_way(args.part, str(path), args.reads)
        print(json.dumps(result))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, python {platform.python_version()}")
    if not path.is_file():
        count, seconds = timed(lambda: write_rows(path, make_rows(args.rows, args.side)))
        print(f"wrote {count:,} rows in {seconds:.1f} s")
    size = path.stat().st_size
    print(f"{path}: {args.rows:,} rows, {size / 2**20:,.0f} MiB, {size / args.rows:,.0f} bytes per row\n")
    common = ["--rows", str(args.rows), "--side", str(args.side), "--reads", str(args.reads), "--folder", args.folder]
    with tempfile.TemporaryDirectory(dir=args.folder) as cache:
        results = {way: apart(*common, "--part", way, cache=cache) for way in WAYS}
        lengths = apart(*common, "--part", "filter", cache=cache)
    ours = results["open_rows"]
    assert len({result.pop("checksum") for result in results.values()}) == 1
    print(f"{'':<22}" + "".join(f"{way:>36}" for way in WAYS))
    for name in ours:
        cells = "".join(f"{r[name]:>21.2f}  ({r[name] / max(ours[name], 0.01):>8.1f} x)" for r in results.values())
        print(f"{name:<22}{cells}")
    print("\nprompt-length filter, seconds (embedded policy's tokenizer, multi template)")
    for name, value in lengths.items():
        print(f"  {name:<32}{value:>12,.2f}")
    print(f"  first is {lengths['row by row (from 1 in 20 rows)'] / lengths['first']:.1f} x as fast as row by row")


if __name__ == "__main__":
    main()
