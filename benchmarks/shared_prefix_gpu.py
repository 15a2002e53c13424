"""Passes of Qwen2.5-VL-3B on one GPU with shared prefixes against separate rows: time, peak memory, and agreement.

    python benchmarks/shared_prefix_gpu.py                          # one GPU of 80 GB; two minutes
    python benchmarks/shared_prefix_gpu.py --shapes 8x300 --layers 2 --vision-layers 2   # a trial

Random weights of the published size in bfloat16 with gradient checkpointing; a prompt of 900 image and 150 text tokens
and n answers of 2/3 to 4/3 of a length. Ways:

    padded    all rows of a group in one micro-batch, padded to the longest
    packed    all rows one after another, each with its own prompt; nothing padded
    shared    the prompt once, then all answers

The vision tower computes the image once in all ways; the row "image" is that part of each. Logits: padded computes
those of all places, as verl does; the others those of answers. Time is the median of --rounds, after one that warms up.
Memory is PyTorch's peak above weights and gradients. Agreement: |gradient - reference| / |reference| over all weights,
where the reference is the padded way in float32; what padded itself has there is bfloat16's rounding.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

WAYS = ("padded", "packed", "shared", "image")


def passes(model: Any, shape: Any, way: str) -> Callable[[bool], float]:
    """A pass over all rows of ``shape`` (with a backward pass or without) that returns the loss."""
    import torch
    from shared_prefix import Rows, make_rows, padded_logits, shared_logits

    cpu = make_rows(shape, model)
    images: dict[int, dict[str, Any]] = {}
    for image in cpu.images:
        images.setdefault(id(image), {name: value.cuda() for name, value in image.items()})
    rows = Rows(
        [row.cuda() for row in cpu.sequences],
        [row.cuda() for row in cpu.positions],
        [images[id(image)] for image in cpu.images],
        cpu.prompt,
    )
    if way == "image":
        return lambda backward: _image(model, rows.images[0], backward)
    everything = list(range(len(rows.sequences)))
    total = sum(len(row) - rows.prompt for row in rows.sequences)

    def one_pass(backward: bool) -> float:
        if way == "padded":
            found = padded_logits(model, rows, everything)
        else:
            found = shared_logits(model, rows, [[row] for row in everything] if way == "packed" else [everything])
        terms = []
        for logits, labels in found:
            chosen = logits.gather(-1, labels[:, None])[:, 0].float() - logits.float().logsumexp(-1)
            terms.append((chosen * torch.linspace(-1, 1, 400, device="cuda")[labels % 400]).sum())
        loss = torch.stack(terms).sum() / total
        if backward:
            loss.backward()
        return float(loss.detach())

    return one_pass


def _image(model: Any, image: dict[str, Any], backward: bool) -> float:
    found = model.model.visual(image["pixel_values"].to(model.dtype), grid_thw=image["image_grid_thw"]).pooler_output
    mean = found.float().mean()
    if backward:
        mean.backward()
    return float(mean.detach())


def make(way: str, layers: int, vision_layers: int, width: int, dtype: Any) -> Any:
    from random_policy import config_of_size, random_model

    from seg_zero.training.engine.shared_prefix.forward import share_prefixes
    from seg_zero.training.engine.vision_once import VisionOnce

    model = random_model(config_of_size(layers, vision_layers, width), "cuda", dtype)
    model.train().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if way in ("packed", "shared"):
        share_prefixes(model)
    model.model.visual.forward = VisionOnce(model.model.visual, keep_bytes=0)
    return model


def timed(call: Callable[[], Any]) -> float:
    import torch

    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(shape: Any, way: str, size: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Seconds of a forward pass without gradients and of a forward and backward pass; GiB at the peak of the latter."""
    import torch

    model = make(way, *size, torch.bfloat16)
    one_pass = passes(model, shape, way)

    def forward() -> None:
        with torch.no_grad():
            one_pass(False)

    forward()
    one_pass(True)  # makes the gradients
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    both = [timed(lambda: one_pass(True)) for _ in range(rounds)]
    peak = torch.cuda.max_memory_allocated() - before
    alone = [timed(forward) for _ in range(rounds)]
    return {"forward": statistics.median(alone), "both": statistics.median(both), "gib": peak / 2**30}


def gradients(shape: Any, way: str, size: tuple[int, int, int], dtype: Any) -> dict[str, Any]:
    model = make(way, *size, dtype)
    passes(model, shape, way)(True)
    return {name: weight.grad.cpu() for name, weight in model.named_parameters() if weight.grad is not None}


def distance(found: dict[str, Any], reference: dict[str, Any]) -> float:
    """|found - reference| / |reference|, over all weights at once."""
    gaps = squares = 0.0
    for name, grad in reference.items():
        wanted = grad.cuda().double()
        gaps += float((found[name].cuda().double() - wanted).pow(2).sum())
        squares += float(wanted.pow(2).sum())
    return float((gaps / squares) ** 0.5)


def main() -> None:
    import torch
    from shared_prefix import Shape

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", default=["8x150", "8x300", "16x300"], help="answers x tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=36, help="of the language model")
    parser.add_argument("--vision-layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=2048, help="of the language model")
    arguments = parser.parse_args()
    size = (arguments.layers, arguments.vision_layers, arguments.width)

    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print("| answers x tokens | way | forward, s | forward + backward, s | peak, GiB |")
    print("|---|---|---|---|---|")
    for name in arguments.shapes:
        answers, answer = map(int, name.split("x"))
        shape = Shape(1, answers, answer, side=30, text=150, padded_rows=answers, limit=1 << 30)
        base: dict[str, float] = {}
        for way in WAYS:
            found = measure(shape, way, size, arguments.rounds)
            torch.cuda.empty_cache()
            base = base or found
            cells = [f"{found[key]:.3f} ({found[key] / base[key]:.2f})" for key in ("forward", "both")]
            print(
                f"| {name} | {way} | {' | '.join(cells)} | {found['gib']:.1f} ({found['gib'] / base['gib']:.2f}) |",
                flush=True,
            )

    shape = Shape(1, 4, 150, side=30, text=150, padded_rows=4, limit=1 << 30)
    reference = gradients(shape, "padded", size, torch.float32)
    print("\n4 answers of about 150 tokens, distance of all gradients from padded rows in float32:")
    for way, dtype in (("shared", torch.float32), ("padded", torch.bfloat16), ("shared", torch.bfloat16)):
        torch.cuda.empty_cache()
        gap = distance(gradients(shape, way, size, dtype), reference)
        print(f"{way}, {str(dtype).removeprefix('torch.')}: {gap:.1e}", flush=True)


if __name__ == "__main__":
    main()
