"""Labelling a picture against the straightforward order of steps; memory of the aggregation; other labels on a picture.

    python benchmarks/open_vocabulary.py                                   # ViT-B shapes, 1334 x 896: some minutes
    python benchmarks/open_vocabulary.py --width 96 --depth 3 --size 448 336

speed      windows one at a time, attention and aggregation with whole matrices, written out; against ours.
memory     bytes that the aggregation needs beyond its input and output, by either way, and over four picture sizes.
labels     the same picture again with other labels: seconds of the first call and of the second.

Weights are random, which changes no time. Peak memory is that of torch's CPU allocator, by its profiler.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.naflexvit import NaFlexVit

from seg_zero.cli.demo import describe_machine
from seg_zero.encoders.adaptors import AdaptorHead
from seg_zero.encoders.radio import Adaptor, RadioEncoder
from seg_zero.encoders.radio_model import configuration
from seg_zero.encoders.radio_versions import PATCH, AdaptorInfo, Architecture, Description
from seg_zero.open_vocabulary.aggregation import aggregate
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.open_vocabulary.windows import network_size, resize, windows

CROP, STRIDE, TEXT = 336, 224, 512
LABELS = ["sky", "grass", "road", "house"], ["cat, kitten", "sofa", "wall", "lamp", "rug"]


class Words:
    """A text tower in name only: a vector for each text."""

    name = "benchmark"

    def encode(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([torch.randn(TEXT, generator=torch.Generator().manual_seed(len(text))) for text in texts])


def segmenter_of(width: int, depth: int) -> OpenVocabularySegmenter:
    torch.manual_seed(0)
    architecture = Architecture(width, depth, max(1, width // 64), init_values=0.5, grid=128)
    backbone = NaFlexVit(configuration(architecture, align_corners=False), num_classes=0).eval().requires_grad_(False)
    head = AdaptorHead(width, width, TEXT, blocks=1).eval().requires_grad_(False)
    adaptor = Adaptor("siglip2", AdaptorInfo("siglip2"), head, None)
    encoder = RadioEncoder(backbone, Description("", architecture, {"siglip2": adaptor.info}), {}, "random")
    settings = Settings(crop=CROP, stride=STRIDE, templates="none", denoising=0.0)
    return OpenVocabularySegmenter(encoder, adaptor, Words(), settings)


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
    total = torch.zeros(1, segmenter.encoder.width, rows, columns)
    hits = torch.zeros(rows, columns)
    for top, left, bottom, right in windows(image.shape[-2], image.shape[-1], CROP, STRIDE):
        place = (slice(top // PATCH, bottom // PATCH), slice(left // PATCH, right // PATCH))
        total[(..., *place)] += segmenter.encoder.features(image[..., top:bottom, left:right])
        hits[place] += 1
    return segmenter.project(dense_aggregation(total / hits))


@torch.inference_mode()
def peak_bytes(call: Callable[[], torch.Tensor]) -> int:
    """The most that torch's CPU allocator held at once during the call, beyond what it held before."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def best(call: Callable[[], Any], times: int) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def speed(segmenter: OpenVocabularySegmenter, picture: Image.Image, times: int) -> list[str]:
    image = segmenter.prepare(picture)[None]
    ours = segmenter.project(segmenter.features(image))
    our_seconds = best(lambda: segmenter.project(segmenter.features(image)), times)
    blocks = segmenter.encoder.backbone.blocks
    kept = [block.attn for block in blocks]
    for number, block in enumerate(blocks):
        attention = block.attn
        attention.num_heads = segmenter.encoder.description.architecture.num_heads
        block.attn = WrittenOut(attention, 10.0 if number == len(blocks) - 1 else None)
    theirs = straightforward(segmenter, image)
    their_seconds = best(lambda: straightforward(segmenter, image), times)
    for block, attention in zip(blocks, kept, strict=True):
        block.attn = attention
    difference = float((ours - theirs).abs().max())
    return [
        f"| straightforward, {picture.width}x{picture.height} | {their_seconds:.2f} s |",
        f"| ours | {our_seconds:.2f} s, {their_seconds / our_seconds:.1f} times faster |",
        f"| largest difference of the features | {difference:.1e} |",
    ]


def memory(width: int, picture: Image.Image) -> list[str]:
    lines = []
    for scale in (0.5, 1.0, 1.5, 2.0):
        size = (round(picture.height * scale), round(picture.width * scale))
        rows, columns = (side // PATCH for side in network_size(*size, CROP, STRIDE, longest=8192))
        features = torch.randn(1, width, rows, columns)
        dense = peak_bytes(lambda f=features: dense_aggregation(f))  # type: ignore[misc]
        chunked = peak_bytes(lambda f=features: aggregate(f))  # type: ignore[misc]
        lines.append(
            f"| aggregation of {rows * columns:,} patches | {chunked / 2**20:.0f} MiB, whole matrices "
            f"{dense / 2**20:.0f} MiB ({dense / chunked:.1f} times) |"
        )
    return lines


def labels(segmenter: OpenVocabularySegmenter, picture: Image.Image) -> list[str]:
    first = best(lambda: segmenter.segment(picture, LABELS[0]), 1)
    second = best(lambda: segmenter.segment(picture, LABELS[1]), 1)
    return [
        f"| first call | {first:.2f} s |",
        f"| other labels on the same picture | {second:.3f} s, {first / second:.0f} times faster |",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=(1334, 896), help="of the picture: width, height")
    parser.add_argument("--times", type=int, default=1, help="the best of so many runs counts")
    parser.add_argument(
        "--parts", nargs="+", choices=("speed", "memory", "labels"), default=["speed", "memory", "labels"]
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of the profiler
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.size[1], arguments.size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    segmenter = segmenter_of(arguments.width, arguments.depth)
    print(f"{describe_machine()}; width {arguments.width}, {arguments.depth} blocks\n\n| what | measured |\n|---|---|")
    parts: dict[str, Callable[[], list[str]]] = {
        "speed": lambda: speed(segmenter, picture, arguments.times),
        "memory": lambda: memory(arguments.width, picture),
        "labels": lambda: labels(segmenter, picture),
    }
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # no text vector of an earlier run
        for name in arguments.parts:
            print("\n".join(parts[name]()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
