"""Train the embedded open-vocabulary model from scratch on synthetic scenes, on two CPU cores.

    python -m seg_zero.models.train_tiny_radio --out seg_zero/models/tiny_radio

Patches are contrasted with the texts of what they show, scenes with their captions. The folder then loads with
``load_radio(folder)``. With ``--minutes`` training stops early and goes on at the next call.
"""

from __future__ import annotations

import argparse
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from timm.models.naflexvit import NaFlexVit
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast, Siglip2TextConfig, Siglip2TextModel

from seg_zero.data.synthetic.scenes import COLOURS, PLURALS, SHAPES, make_scene
from seg_zero.encoders.adaptors import AdaptorHead
from seg_zero.encoders.radio import MEAN, STD
from seg_zero.encoders.radio_model import configuration
from seg_zero.encoders.radio_versions import (
    DESCRIPTION,
    PATCH,
    WEIGHTS,
    AdaptorInfo,
    Architecture,
    Description,
    ImageDefaults,
)
from seg_zero.encoders.templates import TEMPLATES, canonical
from seg_zero.files import whole_file, write_json
from seg_zero.models.muon import MuonAndAdamW
from seg_zero.models.tiny_radio_scenes import LabelledScene, label_sets, labelled, patch_fractions
from seg_zero.open_vocabulary.aggregation import aggregate
from seg_zero.open_vocabulary.attention import use_self_correlation

SEED = 30_000
WIDTH, TEXT_TOKENS = 128, 24
ARCHITECTURE = Architecture(embed_dim=WIDTH, depth=4, num_heads=4, mlp_ratio=2.0, init_values=0.3, grid=16)
IMAGES = ImageDefaults(crop=128, stride=64, short_side=192)
CROPS = ((192, 16), (128, 32))  # side and number of a step's crops, in turn: whole scenes, and windows
DRAWN, SIDES, POOL = (112, 168, 224, 336, 448), (192, 192, 208), 800  # scenes: drawn at, scaled to, how many
WORKERS = 2  # threads, each with its part of a step's crops
MATRIX_RATE, OTHER_RATE, WARM_UP_STEPS = 0.02, 3e-3, 40  # Muon, AdamW
SCALES = (20.0, 100.0)  # of the cosine, at the start and from half of the steps on; inference has the latter
CAPTIONS = 0.1  # weight of the loss on captions
OBJECTS = 4.0  # weight of a patch of an object: background is most of a scene
SET_WEIGHTS = (0.6, 0.15, 0.25)  # how often pixels are named by pairs, colours, shapes
_TOKENIZING = threading.Lock()  # a tokenizer serves one thread at a time


@dataclass
class TinyRadio:
    """The parts that are trained together."""

    backbone: NaFlexVit
    head: AdaptorHead
    text: Siglip2TextModel
    tokenizer: PreTrainedTokenizerFast

    def named(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "head": self.head, "text": self.text}

    def encode(self, texts: list[str]) -> torch.Tensor:
        """n texts to n x E of length 1."""
        with _TOKENIZING:
            tokens = self.tokenizer(
                [canonical(text) for text in texts],
                padding="max_length", truncation=True, max_length=TEXT_TOKENS, return_tensors="pt",
            )  # fmt: skip
        return F.normalize(self.text(input_ids=tokens["input_ids"]).pooler_output.float(), dim=-1)


def optimisers_of(model: TinyRadio, steps: int) -> MuonAndAdamW:
    """Muon for the matrices inside the network, AdamW for embeddings and vectors."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in model.named().values():
        for name, weight in module.named_parameters():
            inner = weight.ndim == 2 and "embed" not in name
            (matrices if inner else others).append(weight)
    rates = (MATRIX_RATE, OTHER_RATE)
    return MuonAndAdamW(matrices, others, rates=rates, warm_up=WARM_UP_STEPS, steps=steps)


def put_mean(parameters: Sequence[nn.Parameter], gradients: Sequence[Sequence[torch.Tensor | None]]) -> None:
    """Give each parameter the mean of its gradients, of which some parts may have none."""
    for weight, parts in zip(parameters, zip(*gradients, strict=True), strict=True):
        given = [part for part in parts if part is not None]
        weight.grad = sum(given[1:], given[0]) / len(gradients) if given else None


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words of templates and scenes whole, all others by letters."""
    sentences = [*TEMPLATES["imagenet"], *COLOURS, *SHAPES, *PLURALS.values(), "background shape shapes and"]
    words = sorted({word for sentence in sentences for word in canonical(sentence.replace("{}", " ")).split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789")
    vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", *letters, *(f"##{letter}" for letter in letters), *words]))
    pieces = models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    tokenizer = Tokenizer(pieces)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def build() -> TinyRadio:
    """Random weights, but for the patch projection (lowest frequencies of each colour) and the positions (waves)."""
    torch.manual_seed(SEED)
    backbone = NaFlexVit(configuration(ARCHITECTURE, align_corners=False), num_classes=0)
    tokenizer = make_tokenizer()
    config = Siglip2TextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=1,
        num_attention_heads=4, max_position_embeddings=TEXT_TOKENS, projection_size=WIDTH,
        pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    assert backbone.embeds.pos_embed is not None
    with torch.no_grad():
        backbone.embeds.proj.weight.copy_(_frequencies(WIDTH))
        backbone.embeds.proj.bias.zero_()
        backbone.embeds.pos_embed.copy_(_positions(ARCHITECTURE.grid, WIDTH))
    return TinyRadio(backbone, AdaptorHead(WIDTH, 2 * WIDTH, WIDTH), Siglip2TextModel(config), tokenizer)


def _frequencies(count: int) -> torch.Tensor:
    """``count`` cosine patterns of a patch, a third for each colour, lowest first: count x (16*16*3), channels last."""
    steps = (torch.arange(PATCH) + 0.5) * math.pi / PATCH
    orders = sorted(((i, j) for i in range(8) for j in range(8)), key=lambda order: (sum(order), order))
    waves = [torch.cos(i * steps)[:, None] * torch.cos(j * steps)[None, :] for i, j in orders[: -(-count // 3)]]
    filters = torch.zeros(count, PATCH, PATCH, 3)
    for index in range(count):
        wave = waves[index // 3]
        filters[index, :, :, index % 3] = wave / wave.norm() / 4
    return filters.reshape(count, -1)


def _positions(grid: int, width: int) -> torch.Tensor:
    """Sines and cosines of the row, then of the column, of slower and slower waves: 1 x grid x grid x width."""
    waves = 60.0 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(grid)[:, None] * waves
    along = 0.5 * torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = along[:, None].expand(-1, grid, -1), along[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1)[None]


@cache
def pool_scene(index: int) -> LabelledScene:
    """A scene of the pool with up to six shapes, drawn and then scaled to one of several sizes."""
    rng = np.random.default_rng((SEED, index))
    scene = labelled(make_scene(rng, int(rng.choice(DRAWN)), shapes=6))
    size = (int(rng.choice(SIDES)),) * 2
    image = Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR)
    pairs = Image.fromarray(scene.pairs).resize(size, Image.Resampling.NEAREST)
    return LabelledScene(np.asarray(image), np.asarray(pairs), scene.caption)


def draw_batch(step: int, part: int) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    """Crops B x 3 x side x side, normalised; their labels B x side x side; captions: a part of a step's, from 0 up.

    A function of its arguments alone.
    """
    rng = np.random.default_rng((SEED, 1, step, part))
    side, count = CROPS[step // 3 % len(CROPS)]
    images, pairs, captions = [], [], []
    for index in rng.choice(POOL, count // WORKERS, replace=False):
        scene = pool_scene(int(index))
        top, left = rng.integers(0, scene.image.shape[0] - side + 1, size=2)
        place = (slice(top, top + side), slice(left, left + side))
        flip = slice(None, None, -1 if rng.random() < 0.5 else 1)
        light = rng.uniform(0.9, 1.08, size=3) * rng.uniform(0.9, 1.1)
        images.append((scene.image[place][:, flip] / 255 * light - np.array(MEAN)) / np.array(STD))
        pairs.append(scene.pairs[place][:, flip])
        captions.append(scene.caption)
    return torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2), np.stack(pairs), captions


def loss_of(model: TinyRadio, step: int, steps: int, part: int = 0) -> tuple[torch.Tensor, float]:
    """The loss of a part of a step's crops, and the fraction of patches of objects that get their text.

    The target of a patch is how much of it each class covers, so that probabilities cross at the edge. In turns the
    patches are those of ordinary attention, of self-correlation, and of that with aggregation, as inference may have
    them.
    """
    rng = np.random.default_rng((SEED, 2, step, part))
    images, pairs, captions = draw_batch(step, part)
    texts, lookup = label_sets()[int(rng.choice(3, p=SET_WEIGHTS))]
    written = [str(rng.choice(TEMPLATES["imagenet"])).replace("{}", text) for text in texts]
    tokens: Any = model.backbone.forward_features(images)
    patches = tokens[:, model.backbone.num_prefix_tokens :]
    if step % 3 == 2:
        rows = images.shape[-1] // PATCH
        square = patches.transpose(1, 2).reshape(len(images), WIDTH, rows, rows)
        patches = aggregate(square).flatten(2).transpose(1, 2)
    vectors = F.normalize(model.head(torch.cat([tokens[:, :1], patches], dim=1)).float(), dim=-1)
    encoded = model.encode([*written, *captions])
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * min(1.0, 2 * step / steps)
    logits = (scale * vectors[:, 1:] @ encoded[: len(texts)].T).flatten(0, 1)
    targets = torch.from_numpy(patch_fractions(pairs, lookup, PATCH)).flatten(0, 2)
    covered = targets[:, 1:].sum(-1)
    weights = targets.sum(-1) + (OBJECTS - 1) * covered
    losses = F.cross_entropy(logits, targets, reduction="none") + (targets * targets.clamp(min=1e-6).log()).sum(-1)
    regions = (losses * weights).sum() / weights.sum()
    contrast = SCALES[0] * vectors[:, 0] @ encoded[len(texts) :].T
    own = torch.arange(len(images))
    whole = (F.cross_entropy(contrast, own) + F.cross_entropy(contrast.T, own)) / 2
    hits = (logits.argmax(-1) == targets.argmax(-1))[covered > 0.5].float().mean()
    return regions + CAPTIONS * whole, float(hits)


def save(model: TinyRadio, folder: Path) -> None:
    """Write radio.json, the weights in half precision, and the text tower to ``folder``."""
    tensors = {f"backbone.{name}": value for name, value in model.backbone.state_dict().items()}
    tensors |= {f"adaptors.siglip2.summary.{name}": value for name, value in model.head.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS) as partial:
        save_file({name: value.half().contiguous() for name, value in tensors.items()}, partial)
    model.tokenizer.save_pretrained(folder / "text")
    text = Siglip2TextModel(model.text.config)
    text.load_state_dict(model.text.state_dict())
    text.half().save_pretrained(folder / "text")
    info = AdaptorInfo("siglip2", "text")
    write_json(folder / DESCRIPTION, Description("", ARCHITECTURE, {"siglip2": info}, IMAGES).to_json())


def train(folder: Path, steps: int, minutes: float | None) -> int:
    """Train for ``steps`` in all; stop after ``minutes`` of this process and go on at the next call.

    Returns how many steps are done. ``folder`` holds progress.pt until they all are.
    """
    start, model = time.monotonic(), build()
    optimisers = optimisers_of(model, steps)
    done, progress = 0, folder / "progress.pt"
    if progress.is_file():
        saved = torch.load(progress, weights_only=True)
        for name, module in model.named().items():
            module.load_state_dict(saved["model"][name])
        optimisers.restore(saved["optimisers"])
        done = saved["step"]
    print(f"{sum(p.numel() for p in optimisers.parameters):,} parameters, step {done} of {steps}", flush=True)
    plain = model.backbone.blocks[-1].attn
    recent: list[float] = []
    pool = ThreadPoolExecutor(WORKERS)

    def part_of(part: int) -> tuple[float, float, tuple[torch.Tensor | None, ...]]:
        loss, hits = loss_of(model, done, steps, part)
        return float(loss.detach()), hits, torch.autograd.grad(loss, optimisers.parameters, allow_unused=True)

    while done < steps and (minutes is None or time.monotonic() - start < 60 * minutes):
        model.backbone.blocks[-1].attn = plain
        if done % 3:
            use_self_correlation(model.backbone)
        losses, hits, gradients = zip(*pool.map(part_of, range(WORKERS)), strict=True)
        put_mean(optimisers.parameters, gradients)
        optimisers.step(done)
        recent = [*recent[-99:], *hits]
        done += 1
        if done % 25 == 0:
            seconds = time.monotonic() - start
            right = f"right in objects {np.mean(recent):.3f}"
            print(f"step {done}  loss {np.mean(losses):.3f}  {right}  {seconds:.0f} s", flush=True)
    pool.shutdown()
    model.backbone.blocks[-1].attn = plain
    save(model, folder)
    with whole_file(progress) as partial:
        state = {name: module.state_dict() for name, module in model.named().items()}
        torch.save({"model": state, "optimisers": optimisers.state(), "step": done}, partial)
    if done == steps:
        progress.unlink()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded open-vocabulary model from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights, the text tower and radio.json")
    parser.add_argument("--steps", type=int, default=800, help="in all")
    parser.add_argument("--minutes", type=float, help="stop after these, and go on at the next call")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train(arguments.out, arguments.steps, arguments.minutes)


if __name__ == "__main__":
    main()
