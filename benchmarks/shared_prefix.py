"""A policy's passes with shared prefixes against separate rows: time, peak memory, and whether they agree.

    python benchmarks/shared_prefix.py                     # the tiny shape and four middle ones, about an hour
    python benchmarks/shared_prefix.py --shapes tiny
    python benchmarks/shared_prefix.py --estimate          # published sizes by operations; a second, nothing is run

Middle shapes: a random Qwen2.5-VL of 8 layers of width 1024 in float32 with gradient checkpointing, a prompt of 900
image and 150 text tokens, and n answers of 2/3 to 4/3 of a length. Ways:

    padded    all rows of a group in one micro-batch, padded to the longest (tiny: 16 rows in the order they come)
    sorted    half as many rows in a micro-batch, sorted by length
    shared    one row per group: the prompt once

The vision tower computes each image once in all ways. Time is the best of --rounds, of a forward pass without gradients
and of a forward and backward pass. Memory is the peak of one forward and backward pass above what the model takes,
gradients included, in a process of its own whose allocator returns what is freed: by default glibc keeps blocks below
32 MiB, and the peak would depend on how they fit. "agrees" is the largest difference of the loss and of all gradients
from the padded way, as a fraction of the largest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Shape:
    """groups x answers rows; tokens of an answer are spread evenly over 2/3 to 4/3 of ``answer``."""

    groups: int
    answers: int
    answer: int
    side: int  # image tokens along a side
    text: int
    padded_rows: int
    limit: int  # tokens of a micro-batch with shared prefixes

    @property
    def lengths(self) -> list[int]:
        span = max(1, self.answers - 1)
        return [round(self.answer * (2 / 3 + 2 / 3 * (7 * i % self.answers) / span)) for i in range(self.answers)]

    @property
    def prompt(self) -> int:
        return self.side**2 + self.text


TINY = Shape(groups=16, answers=8, answer=28, side=4, text=26, padded_rows=16, limit=2048)
SHAPES = {
    "tiny": TINY,
    **{
        f"middle-{n}x{answer}": Shape(1, n, answer, side=30, text=150, padded_rows=n, limit=1 << 30)
        for n in (8, 16)
        for answer in (150, 300)
    },
}
WAYS = ("padded", "sorted", "shared")


def make_model(name: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    from seg_zero.policy.model_files import TINY_POLICY

    logging.disable_progress_bar()
    torch.manual_seed(0)
    if name == "tiny":
        return AutoModelForImageTextToText.from_pretrained(TINY_POLICY, dtype=torch.float32)
    config = AutoConfig.from_pretrained(TINY_POLICY)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 1024, 2816, 8
    text.num_attention_heads, text.num_key_value_heads, text.vocab_size = 8, 2, 16_384
    text.layer_types = ["full_attention"] * 8
    text.rope_parameters["mrope_section"] = [16, 24, 24]
    vision.out_hidden_size = 1024
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    model.train().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


@dataclass
class Rows:
    """sequences, positions, images: of every row; prompt: tokens of each prompt."""

    sequences: list[Any]
    positions: list[Any]
    images: list[dict[str, Any]]
    prompt: int


def make_rows(shape: Shape, model: Any) -> Rows:
    import torch

    random = torch.Generator().manual_seed(1)
    patch = model.config.vision_config.patch_size
    grid = torch.tensor([[1, 2 * shape.side, 2 * shape.side]])
    rows = Rows([], [], [], shape.prompt)
    for _ in range(shape.groups):
        image = {
            "pixel_values": torch.randn(4 * shape.side**2, 6 * patch**2, generator=random),
            "image_grid_thw": grid,
        }
        text = torch.randint(20, 400, (shape.text,), generator=random)
        tokens = torch.full((shape.side**2,), model.config.image_token_id)
        prompt = torch.cat([text[: shape.text // 2], tokens, text[shape.text // 2 :]])
        for length in shape.lengths:
            rows.sequences.append(torch.cat([prompt, torch.randint(20, 400, (length,), generator=random)]))
            rows.positions.append(torch.arange(len(rows.sequences[-1])).expand(4, -1))
            rows.images.append(image)
    return rows


def padded_logits(model: Any, rows: Rows, which: list[int]) -> Iterator[tuple[Any, Any]]:
    """Logits and labels of the answers of one padded micro-batch; logits of all places, as verl computes them."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = pad_sequence([rows.sequences[row] for row in which], batch_first=True)
    positions = pad_sequence([rows.positions[row].T for row in which], batch_first=True).permute(2, 0, 1)
    lengths = torch.tensor([len(rows.sequences[row]) for row in which], device=ids.device)
    images = [rows.images[row] for row in which]
    output = model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=(torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long(),
        pixel_values=torch.cat([image["pixel_values"] for image in images]),
        image_grid_thw=torch.cat([image["image_grid_thw"] for image in images]),
        use_cache=False,
    )
    for row, logits in zip(which, output.logits, strict=True):
        end = len(rows.sequences[row])
        yield logits[rows.prompt - 1 : end - 1], rows.sequences[row][rows.prompt :]


def shared_logits(model: Any, rows: Rows, parts: list[list[int]]) -> Iterator[tuple[Any, Any]]:
    import torch

    from seg_zero.training.engine.shared_prefix.batch import ImageTokens, flat_row, shown_images

    which = [row for part in parts for row in part]
    sequences, images = [rows.sequences[row] for row in which], [rows.images[row] for row in which]
    tokens = ImageTokens(model.config.image_token_id, model.config.vision_config.spatial_merge_size)
    row = flat_row(sequences, [rows.prompt] * len(which), [len(part) for part in parts], images, tokens)
    ids, positions = torch.cat(sequences), torch.cat([rows.positions[row] for row in which], 1)
    taken = row.tokens.to(ids.device)
    output = model(
        input_ids=ids[taken][None],
        position_ids=positions[:, None, taken],
        layout=row.layout.moved(ids.device),
        logits_at=row.logits_at.to(ids.device),
        use_cache=False,
        **shown_images(row, images),
    )
    yield output.logits, ids[row.predicted.to(ids.device) + 1]


def micro_batches(shape: Shape, way: str, rows: Rows) -> list[Any]:
    from seg_zero.training.engine.shared_prefix.groups import micro_batches as whole_groups

    count, answers = len(rows.sequences), [len(row) - rows.prompt for row in rows.sequences]
    if way == "shared":
        groups = [list(range(g * shape.answers, (g + 1) * shape.answers)) for g in range(shape.groups)]
        return list(whole_groups(groups, [rows.prompt] * count, answers, shape.limit))
    order, size = list(range(count)), shape.padded_rows
    if way == "sorted":
        order.sort(key=lambda row: -answers[row])
        size = size if shape.groups > 1 else size // 2
    return [order[at : at + size] for at in range(0, count, size)]


def passes(shape_name: str, way: str, threads: int) -> tuple[Any, Callable[[bool], float], int]:
    """The model of one way, its pass over all rows (with a backward pass or without; returns the loss), and the tokens
    that the pass computes."""
    import torch

    from seg_zero.training.engine.shared_prefix.forward import share_prefixes
    from seg_zero.training.engine.vision_once import VisionOnce

    torch.set_num_threads(threads)
    shape, model = SHAPES[shape_name], make_model(shape_name)
    if way == "shared":
        share_prefixes(model)
    model.model.visual.forward = VisionOnce(model.model.visual, keep_bytes=0)
    rows = make_rows(shape, model)
    batches = micro_batches(shape, way, rows)
    total = sum(len(row) - rows.prompt for row in rows.sequences)
    logits_of: Any = shared_logits if way == "shared" else padded_logits

    def one_pass(backward: bool) -> float:
        loss = 0.0
        for batch in batches:
            terms = []
            for logits, labels in logits_of(model, rows, batch):
                chosen = logits.gather(-1, labels[:, None])[:, 0] - logits.logsumexp(-1)
                terms.append((chosen * torch.linspace(-1, 1, 400)[labels % 400]).sum())
            part = torch.stack(terms).sum() / total
            del terms, logits, chosen
            if backward:
                part.backward()
            loss += part.item()
        return loss

    if way == "shared":
        tokens = sum(map(len, batches)) * rows.prompt + total
    else:
        tokens = sum(len(batch) * max(len(rows.sequences[row]) for row in batch) for batch in batches)
    return model, one_pass, tokens


def run_way(shape_name: str, way: str, rounds: int, threads: int) -> dict[str, Any]:
    """Seconds of the passes of one way, tokens, loss and gradients."""
    import torch

    model, one_pass, tokens = passes(shape_name, way, threads)
    seconds: dict[str, list[float]] = {"forward": [], "both": []}
    for number in range(rounds + 1):  # the first warms up
        start = time.perf_counter()
        with torch.no_grad():
            one_pass(False)
        seconds["forward"] += [time.perf_counter() - start] * (number > 0)
    for _ in range(rounds):
        model.zero_grad()
        start = time.perf_counter()
        loss = one_pass(True)
        seconds["both"].append(time.perf_counter() - start)
    return {
        **{name: min(found) for name, found in seconds.items()},
        "loss": loss,
        "tokens": tokens,
        "gradients": {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None},
    }


def run_memory(shape_name: str, way: str, threads: int) -> dict[str, Any]:
    """Peak of one way's forward and backward pass in MiB, above the model and the rows."""
    _, one_pass, _ = passes(shape_name, way, threads)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM, the peak, anew
    one_pass(True)
    return {"mib": _memory("VmHWM") - before}


def _memory(name: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure(shape: str, way: str, rounds: int, threads: int) -> dict[str, Any]:
    """:func:`run_way` and :func:`run_memory`, each in a process of its own."""
    import torch

    # Threads that wait for others do not compete with them.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for what, extra in (("time", {}), ("memory", {"MALLOC_MMAP_THRESHOLD_": "262144"})):
            file = Path(folder) / f"{what}.pt"
            options = ["--one", what, shape, way, str(file), "--rounds", str(rounds), "--threads", str(threads)]
            subprocess.run([sys.executable, __file__, *options], check=True, cwd=ROOT, env={**environment, **extra})
            found.update(torch.load(file, weights_only=True))
    return found


def report(shapes: list[str], rounds: int, threads: int) -> None:
    print("| shape | way | tokens computed | forward, s | forward + backward, s | peak, MiB | agrees |")
    print("|---|---|---|---|---|---|---|")
    for shape in shapes:
        base: dict[str, Any] = {}
        for way in WAYS:
            found = measure(shape, way, rounds, threads)
            base = base or found
            largest = max(float(g.abs().max()) for g in base["gradients"].values())
            gap = max(float((found["gradients"][n] - g).abs().max()) for n, g in base["gradients"].items()) / largest
            gap = max(gap, abs(found["loss"] / base["loss"] - 1))
            cells = [f"{found[key]:.2f} ({found[key] / base[key]:.2f})" for key in ("forward", "both")]
            memory = f"{found['mib']:.0f} ({found['mib'] / base['mib']:.2f})"
            agrees = "" if way == "padded" else f"{gap:.0e}"
            print(f"| {shape} | {way} | {found['tokens']} | {' | '.join(cells)} | {memory} | {agrees} |", flush=True)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a forward pass over one group."""

    language: float
    head: float
    vision: float

    @property
    def all(self) -> float:
        return self.language + self.head + self.vision


def operations(model: Any, prompt: int, answer: int, answers: int, image: int, shared: bool) -> Work:
    """Two per weight and token, and four per channel of each pair of a query and a key it sees; images once."""
    channels = model.layers * model.heads * model.head_dim
    own = answers * (answer * prompt + answer * answer / 2)
    rows = 1 if shared else answers
    tokens = rows * prompt + answers * answer
    pairs = rows * prompt * prompt / 2 + own
    predicted = answers * answer if shared else tokens
    language = 2 * model.layers * model.layer_parameters * tokens + 4 * channels * pairs
    return Work(language, 2 * model.vocabulary * model.hidden * predicted, 2 * model.vision_parameters * 4 * image)


def estimate() -> None:
    """The published batch: 16 questions about 840 x 840 pixels; a reference pass, an update with checkpointing."""
    from seg_zero.policy.model_size import find_architecture
    from seg_zero.training.launch.memory import activation_bytes, logits_bytes

    prompt, image = 1050, 900
    print("By operations; 10^12 of 16 questions in a reference pass (1) and an update with checkpointing (4).")
    print(
        "Memory: GiB that the update of one group keeps in bfloat16, layers and logits with entropy, all rows at once."
    )
    print()
    print("| model | n | answer | separate | shared | times less | GiB, separate | GiB, shared | tokens of a group |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in ("Qwen2.5-VL-3B-Instruct", "Qwen2.5-VL-7B-Instruct"):
        model = find_architecture(name)
        assert model is not None, name
        for answers in (8, 16):
            for answer in (150, 300):
                work, memory = [], []
                for shared in (False, True):
                    one = operations(model, prompt, answer, answers, image, shared)
                    work.append(16 * 5 * one.all / 1e12)
                    tokens = (1 if shared else answers) * prompt + answers * answer
                    predicted = answers * answer if shared else tokens
                    kept = activation_bytes(model, tokens, image, 2, checkpointing=True, frozen_vision=False)
                    memory.append((kept + logits_bytes(model, predicted, 2, entropy=True)) / 2**30)
                size = f"{prompt + answers * answer:,}"
                print(
                    f"| {name.split('-')[2]} | {answers} | {answer} | {work[0]:,.0f} | {work[1]:,.0f} | "
                    f"{work[0] / work[1]:.1f} | {memory[0]:.1f} | {memory[1]:.1f} | {size} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--estimate", action="store_true", help="only the table by operations")
    parser.add_argument("--one", nargs=4, metavar=("WHAT", "SHAPE", "WAY", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        import torch

        what, shape, way, file = args.one
        if what == "time":
            torch.save(run_way(shape, way, args.rounds, args.threads), file)
        else:
            torch.save(run_memory(shape, way, args.threads), file)
        return
    if not args.estimate:
        print(json.dumps({"rounds": args.rounds, "threads": args.threads}), "\n")
        report(args.shapes, args.rounds, args.threads)
        print()
    estimate()


if __name__ == "__main__":
    main()
