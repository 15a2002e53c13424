"""Memory and time of merging: model_merger.py against verl's own merger, on the same synthetic checkpoint.

    .venv/bin/python benchmarks/merge.py                     # a Qwen2.5-VL of about 2 GB in float32, 4 workers
    .venv/bin/python benchmarks/merge.py --layers 2 --workers 2

The checkpoint's shards are written as FSDP2 writes them. Each merger runs in a separate process; memory is the
largest of what that process had to itself (RssAnon, which memory-mapped files are not part of), read 50 times a second.
verl's merger writes bfloat16, so that ours is measured in both dtypes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoConfig, AutoModelForImageTextToText

from seg_zero.policy.model_files import TINY_POLICY

ROOT = Path(__file__).resolve().parents[1]


def write_checkpoint(step: Path, layers: int, width: int, workers: int) -> int:
    """A checkpoint of random weights; returns the bytes of its model. One worker's file is in memory at a time."""
    files = step / "actor" / "huggingface"
    files.mkdir(parents=True)
    for path in TINY_POLICY.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, files / path.name)
    config = AutoConfig.from_pretrained(TINY_POLICY)
    text = config.text_config
    text.vocab_size, text.hidden_size, text.intermediate_size = 32_000, width, 3 * width
    text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads = layers, width // 64, width // 128
    text.layer_types = ["full_attention"] * layers
    config.vision_config.out_hidden_size = width
    config.save_pretrained(files)
    (step / "actor" / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": workers}))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for rank in range(workers):
        torch.distributed.init_process_group("fake", rank=rank, world_size=workers, store=FakeStore())
        mesh = init_device_mesh("cpu", (workers,), mesh_dim_names=("fsdp",))
        shard = {}
        for number, (name, shape) in enumerate(shapes.items()):
            rows = torch.arange(shape[0]).chunk(workers)
            mine = len(rows[rank]) if rank < len(rows) else 0
            generator = torch.Generator().manual_seed(number * workers + rank)
            local = torch.randn(mine, *shape[1:], generator=generator) * 0.02
            stride = torch.empty(shape, device="meta").stride()
            shard[name] = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)
        shard["lm_head.weight"] = shard["model.language_model.embed_tokens.weight"]  # tied
        torch.save(shard, step / "actor" / f"model_world_size_{workers}_rank_{rank}.pt")
        torch.distributed.destroy_process_group()
    return sum(shape.numel() for name, shape in shapes.items() if name != "lm_head.weight") * 4


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command to its end: (peak of its anonymous memory in GB, seconds)."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = status.read_text().splitlines()
            peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.02)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read()[-3000:]}")
    return peak * 1024 / 1e9, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        step = Path(folder) / "global_step_1"
        size = write_checkpoint(step, args.layers, args.width, args.workers) / 1e9
        print(f"model of {size:.2f} GB in float32, {args.workers} workers")
        ours = [sys.executable, "training_scripts/model_merger.py", "--local_dir", str(step)]
        # verl leaves model_merger out of the imports of its package.
        theirs = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
        runs = {
            "imports alone": [sys.executable, "-c", "import seg_zero.export.write_model, transformers, torch"],
            "ours, bfloat16, 5GB files": [*ours, "--dtype", "bfloat16"],
            "ours, bfloat16, 500MB files": [*ours, "--dtype", "bfloat16", "--max_shard_size", "500MB"],
            "ours, float32, 500MB files": [*ours, "--max_shard_size", "500MB"],
            "verl, bfloat16": [*theirs, "--local_dir", str(step / "actor")],
        }
        results = {}
        for name, command in runs.items():
            target = Path(folder) / "target"
            results[name] = measure([*command, "--target_dir", str(target)] if name != "imports alone" else command)
            shutil.rmtree(target, ignore_errors=True)
            peak, seconds = results[name]
            print(f"{name:<30}{peak:6.2f} GB  {seconds:6.1f} s")
    verl = results["verl, bfloat16"][0]
    for name in list(runs)[1:4]:
        print(f"verl / {name}: {verl / results[name][0]:.1f} times the memory")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
