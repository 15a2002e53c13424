"""Labelling a picture against the straightforward order of steps; memory of the aggregation; other labels on a picture.

    python benchmarks/open_vocabulary.py                                   # ViT-B shapes, 1334 x 896: some minutes
    python benchmarks/open_vocabulary.py --width 96 --depth 3 --size 448 336 --json outputs/open_vocabulary.json
    python benchmarks/open_vocabulary.py --device cuda --dtype float32 --times 20

speed      windows one at a time, attention and aggregation with whole matrices, written out; against ours, in turn.
memory     bytes that the aggregation needs, by either way at the picture's size; ours, and all of the features, over
           picture sizes from a quarter to four times the area, and the exponent with which each grows.
labels     the same picture again with other labels: seconds of the first call and of the second, whose texts are new in
           one template or in 80, or known. 80 texts a label may cost more than the picture.

Weights are random, which changes no time; the text tower has the backbone's width and depth and SigLIP2's 64 tokens.
The backbone has the precision that the product chooses for the device unless --dtype says otherwise, the text tower
float32. Peak memory is that of torch's allocator beyond what it held before, on CPU by its profiler. On CUDA all kinds
of calls have run once before they count. A row with a target says whether it was met; the exit code is 0 either way.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from timm.models.naflexvit import NaFlexVit

from seg_zero.cli.demo import describe_machine
from seg_zero.devices import DTYPES, choose_device, choose_dtype, wait_for
from seg_zero.encoders.adaptors import AdaptorHead
from seg_zero.encoders.radio import Adaptor, RadioEncoder
from seg_zero.encoders.radio_model import configuration
from seg_zero.encoders.radio_versions import PATCH, AdaptorInfo, Architecture, Description
from seg_zero.encoders.text_towers import SIGLIP_LENGTH
from seg_zero.errors import run_command
from seg_zero.files import make_folder, write_json
from seg_zero.open_vocabulary.aggregation import aggregate
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.open_vocabulary.windows import network_size, resize, windows

CROP, STRIDE, TEXT = 336, 224, 512
FIRST, OTHER = ["sky", "grass", "road", "house"], ["cat", "sofa", "wall", "lamp"]
FURTHER, WARMING = ["sea", "ice", "hut", "tent"], ["one", "two", "three", "four"]
SCALES = (0.5, 0.75, 1.0, 1.5, 2.0)  # of the picture's sides
FASTER, LESS_MEMORY, LINEAR, OTHER_LABELS = 2.0, 5.0, 1.05, 20.0  # the targets
DIFFERENCE = 1e-3  # the target in float32; others round before that


@dataclass(frozen=True)
class Row:
    """A line of the table. value: compared with the target, which it must reach, or not exceed if ``at_most``."""

    what: str
    measured: str
    value: float
    target: float | None = None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def line(self) -> str:
        if self.target is None:
            return f"| {self.what} | {self.measured} | | |"
        bound = f"at {'most' if self.at_most else 'least'} {self.target:g}"
        return f"| {self.what} | {self.measured} | {bound} | {'met' if self.met else 'missed'} |"


class Words(torch.nn.Module):
    """A text tower of SigLIP2's kind with random weights; a text's characters are its tokens."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.name = f"benchmark {width} {depth}"
        layer = torch.nn.TransformerEncoderLayer(
            width, max(1, width // 64), 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.embedding = torch.nn.Embedding(256, width)
        self.blocks = torch.nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, TEXT)
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [list(text.encode().ljust(SIGLIP_LENGTH, b"\0")[:SIGLIP_LENGTH]) for text in texts]
        tokens = torch.tensor(rows, device=self.head.weight.device)
        found: torch.Tensor = self.head(self.blocks(self.embedding(tokens))[:, -1])
        return found.cpu()


def segmenter_of(width: int, depth: int, device: str, dtype: torch.dtype) -> OpenVocabularySegmenter:
    torch.manual_seed(0)
    architecture = Architecture(width, depth, max(1, width // 64), init_values=0.5, grid=128)
    backbone = NaFlexVit(configuration(architecture, align_corners=False), num_classes=0).eval().requires_grad_(False)
    head = AdaptorHead(width, width, TEXT, blocks=1).eval().requires_grad_(False)
    backbone, head = backbone.to(device, dtype), head.to(device, dtype)
    adaptor = Adaptor("siglip2", AdaptorInfo("siglip2"), head, None)
    encoder = RadioEncoder(backbone, Description("", architecture, {"siglip2": adaptor.info}), {}, "random")
    settings = Settings(crop=CROP, stride=STRIDE, templates="none", denoising=0.0)
    return OpenVocabularySegmenter(encoder, adaptor, Words(width, depth).to(device), settings)


def dense_aggregation(features: torch.Tensor, scaling: float = 10.0) -> torch.Tensor:
    """The aggregation of one image with its whole matrices."""
    patches = features[0].flatten(1).T
    directions = F.normalize(patches, dim=-1)
    similar = directions @ directions.T
    similar = (similar - similar.mean()) * scaling
    similar = torch.where(similar < 0, torch.full_like(similar, float("-inf")), similar)
    weights = torch.softmax(similar, dim=-1)
    return (weights @ patches).T.reshape(features.shape)


class WrittenOut(torch.nn.Module):
    """An attention of a block, with its matrix of scores; as ``scaling`` says also that of self-correlation."""

    def __init__(self, attention: Any, scaling: float | None) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads, self.scaling = attention.qkv, attention.proj, attention.num_heads, scaling

    def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        out = self._mixed(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, v)
        if self.scaling is None:
            return out
        z = F.normalize(out.reshape(batch, tokens, self.heads, -1).transpose(1, 2), dim=-1)
        scores = self.scaling * z @ z.transpose(-1, -2)
        return self._mixed(torch.where(scores < 0, torch.full_like(scores, float("-inf")), scores), v)

    def _mixed(self, scores: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


@torch.inference_mode()
def straightforward(segmenter: OpenVocabularySegmenter, image: torch.Tensor) -> torch.Tensor:
    """Features of 1 x 3 x H x W in the space of the text: the original's order of steps, one window at a time."""
    image = resize(image, network_size(image.shape[-2], image.shape[-1], CROP, STRIDE))
    rows, columns = image.shape[-2] // PATCH, image.shape[-1] // PATCH
    total = torch.zeros(1, segmenter.encoder.width, rows, columns, device=image.device)
    hits = torch.zeros(rows, columns, device=image.device)
    for top, left, bottom, right in windows(image.shape[-2], image.shape[-1], CROP, STRIDE):
        down, across = slice(top // PATCH, bottom // PATCH), slice(left // PATCH, right // PATCH)
        total[..., down, across] += segmenter.encoder.features(image[..., top:bottom, left:right])
        hits[down, across] += 1
    return segmenter.project(dense_aggregation(total / hits))


@torch.inference_mode()
def peak_bytes(call: Callable[[], torch.Tensor], device: str = "cpu") -> int:
    """The most that torch's allocator held at once during the call, beyond what it held before."""
    if device.startswith("cuda"):
        call()  # what libraries take once and keep does not count
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def seconds_of(call: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - start


class written_out:
    """In a ``with`` block, the attention of all blocks is written out, as the original's is."""

    def __init__(self, segmenter: OpenVocabularySegmenter) -> None:
        self.blocks = segmenter.encoder.backbone.blocks
        self.heads = segmenter.encoder.description.architecture.num_heads
        self.scaling = segmenter.settings.scra_scaling

    def __enter__(self) -> None:
        self.kept = [block.attn for block in self.blocks]
        for number, block in enumerate(self.blocks):
            block.attn.num_heads = self.heads
            block.attn = WrittenOut(block.attn, self.scaling if number == len(self.blocks) - 1 else None)

    def __exit__(self, *_: object) -> None:
        for block, attention in zip(self.blocks, self.kept, strict=True):
            block.attn = attention


def speed(segmenter: OpenVocabularySegmenter, picture: Image.Image, times: int) -> Iterator[Row]:
    """Both ways in turn, after one call of each that is not timed but compared."""
    image, device = segmenter.prepare(picture)[None], str(segmenter.encoder.device)

    def ours() -> torch.Tensor:
        return segmenter.project(segmenter.features(image))

    result, our_seconds, their_seconds = ours(), list[float](), list[float]()
    with written_out(segmenter):
        difference = float((result - straightforward(segmenter, image)).abs().max() / result.abs().max())
    for _ in range(times):
        our_seconds.append(seconds_of(ours, device))
        with written_out(segmenter):
            their_seconds.append(seconds_of(lambda: straightforward(segmenter, image), device))
    faster = min(their_seconds) / min(our_seconds)
    size = f"{picture.width}x{picture.height}"
    yield Row(f"straightforward, {size}", f"{min(their_seconds):.3f} s", min(their_seconds))
    yield Row(f"ours, {size}", f"{min(our_seconds):.3f} s", min(our_seconds))
    yield Row("times faster", f"{faster:.2f}", faster, FASTER)
    target = DIFFERENCE if segmenter.encoder.dtype == torch.float32 else None
    yield Row("largest difference of the features, of their largest", f"{difference:.1e}", difference, target, True)


def memory(segmenter: OpenVocabularySegmenter, picture: Image.Image) -> Iterator[Row]:
    width, found = segmenter.encoder.width, list[tuple[int, int, int]]()
    dtype, device = segmenter.encoder.dtype, str(segmenter.encoder.device)
    for scale in SCALES:
        height, across = (max(PATCH, round(side * scale)) for side in (picture.height, picture.width))
        rows, columns = (side // PATCH for side in network_size(height, across, CROP, STRIDE, longest=1 << 20))
        features = torch.randn(1, width, rows, columns, device=device, dtype=dtype)
        stage = peak_bytes(lambda f=features: aggregate(f), device)  # type: ignore[misc]
        image = torch.rand(1, 3, height, across, device=device)
        whole = peak_bytes(lambda i=image: segmenter.features(i), device)  # type: ignore[misc]
        found.append((rows * columns, stage, whole))
        yield Row(f"aggregation of {rows * columns:,} patches", _mebibytes(stage), stage)
        yield Row(f"all of the features, {across}x{height}", _mebibytes(whole), whole)
        if scale == 1.0:  # larger ones would need gigabytes
            dense = peak_bytes(lambda f=features: dense_aggregation(f.float()), device)  # type: ignore[misc]
            yield Row(f"aggregation of {rows * columns:,} patches with whole matrices", _mebibytes(dense), dense)
            yield Row("times less memory", f"{dense / stage:.1f}", dense / stage, LESS_MEMORY)
    for name, place in (("the aggregation", 1), ("all of the features", 2)):
        grown = _exponent([one[0] for one in found], [one[place] for one in found])
        yield Row(f"memory of {name} grows as the area to the power of", f"{grown:.2f}", grown, LINEAR, True)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _exponent(areas: Sequence[int], values: Sequence[int]) -> float:
    """The slope of log(values) over log(areas): least squares."""
    return float(np.polyfit([math.log(area) for area in areas], [math.log(value) for value in values], 1)[0])


def warm_up(segmenter: OpenVocabularySegmenter, picture: Image.Image) -> None:
    """Another picture and other texts, in one template and in 80: CUDA loads what it computes with at its first use."""
    settings = segmenter.settings
    segmenter.segment(ImageOps.invert(picture), WARMING)
    segmenter.change(replace(settings, templates="imagenet"))
    segmenter.segment(ImageOps.invert(picture), WARMING)
    segmenter.change(settings)


def labels(segmenter: OpenVocabularySegmenter, picture: Image.Image) -> Iterator[Row]:
    device = str(segmenter.encoder.device)

    def timed(asked: list[str]) -> float:
        return seconds_of(lambda: segmenter.segment(picture, asked), device)

    if device.startswith("cuda"):
        warm_up(segmenter, picture)
    first = timed(FIRST)
    yield Row(f"first call, {len(FIRST)} labels", f"{first:.3f} s", first)
    cases = [("known texts in another order", timed(FIRST[::-1]))]
    cases.append(("other labels, one template", timed(OTHER)))
    cases.append(("the same once more", timed(OTHER[::-1])))
    segmenter.change(replace(segmenter.settings, templates="imagenet"))
    cases.append(("other labels, 80 templates", timed(FURTHER)))
    for name, taken in cases:
        faster = first / taken
        yield Row(f"{name}, on the same picture", f"{taken:.4f} s, {faster:.1f} times faster", faster, OTHER_LABELS)


PARTS = ("speed", "memory", "labels")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=768, help="of the backbone and the text tower; multiples of 64")
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=(1334, 896), help="of the picture: width, height")
    parser.add_argument("--times", type=int, default=3, help="the best of so many runs of each way counts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", help="(default: cuda if there is one)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the backbone (default: bfloat16 on CUDA, else float32)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # of the profiler
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.size[1], arguments.size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    device = choose_device(arguments.device)
    dtype = choose_dtype(arguments.dtype, device)
    segmenter = segmenter_of(arguments.width, arguments.depth, device, dtype)
    shape = f"width {arguments.width}, {arguments.depth} blocks, {str(dtype).removeprefix('torch.')} on {device}"
    machine = f"{describe_machine()}; {torch.get_num_threads()} threads; {shape}"
    print(f"{machine}\n\n| what | measured | target | |\n|---|---|---|---|", flush=True)
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "speed": lambda: speed(segmenter, picture, arguments.times),
        "memory": lambda: memory(segmenter, picture),
        "labels": lambda: labels(segmenter, picture),
    }
    rows = []
    # No vector of an earlier run is found.
    with tempfile.TemporaryDirectory() as cache, patch.dict(os.environ, XDG_CACHE_HOME=cache):
        for name in arguments.parts:
            for row in parts[name]():
                rows.append(row)
                print(row.line(), flush=True)
    if arguments.json is not None:
        make_folder(arguments.json.parent)
        write_json(arguments.json, {"machine": machine, "rows": [{**asdict(row), "met": row.met} for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
