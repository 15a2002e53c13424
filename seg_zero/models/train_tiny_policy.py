"""Train the tiny policy from scratch on one CPU core.

    python -m seg_zero.models.train_tiny_policy --out FOLDER

Two stages: the vision tower learns to say what each visual token shows; then the whole model imitates
the crowd of annotators of ``tiny_policy_data.py``. Ends with the measurement of the saved weights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from seg_zero.data.synthetic.scenes import make_scene
from seg_zero.models.tiny_policy_data import make_lesson
from seg_zero.models.tiny_policy_forward import PackedForward, patchify, visual_tokens
from seg_zero.models.tiny_policy_losses import (
    BatchMaker,
    Helpers,
    Weights,
    cell_truth,
    helper_loss,
    imitation_loss,
)
from seg_zero.models.tiny_policy_measure import print_measurements
from seg_zero.models.tiny_policy_model import WIDTH, make_model, save_policy
from seg_zero.models.tiny_policy_tokenizer import make_processor


@dataclass(frozen=True)
class Recipe:
    """The recipe of the shipped weights."""

    seed: int = 1
    vision_steps: int = 600
    vision_images: int = 32  # per step
    steps: int = 2400
    images: int = 12  # per step
    questions: int = 4  # per image
    warm_up: int = 50  # steps
    matrix_rate: float = 0.02  # Muon
    other_rate: float = 4e-3  # AdamW
    helpers_end: float = 0.8  # fraction of the steps after which the helpers' weights are zero


class Optimisers:
    """Muon for the matrices inside the network, AdamW for embeddings, vectors and the helpers."""

    def __init__(self, modules: Iterable[nn.Module], recipe: Recipe, steps: int) -> None:
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for module in modules:
            for name, weight in module.named_parameters():
                inner = weight.ndim == 2 and "embed_tokens" not in name and not isinstance(module, Helpers)
                (matrices if inner else others).append(weight)
        self.parameters = matrices + others
        self.rates = (recipe.matrix_rate, recipe.other_rate)
        self.steps, self.warm_up = steps, recipe.warm_up
        self.optimisers = (
            torch.optim.Muon(matrices, lr=recipe.matrix_rate, weight_decay=0.0),
            torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        )

    def step(self, loss: torch.Tensor, number: int) -> None:
        """One update; the rate rises linearly, then falls as a half cosine to zero."""
        factor = min(1.0, (number + 1) / self.warm_up) * 0.5 * (1 + math.cos(math.pi * number / self.steps))
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
            optimiser.step()
            optimiser.zero_grad()


def _report(stage: str, number: int, steps: int, started: float, values: dict[str, float]) -> None:
    numbers = " ".join(f"{key} {value:.3f}" for key, value in values.items())
    print(f"{stage} {number}/{steps} cpu-min {(time.process_time() - started) / 60:.1f} {numbers}", flush=True)


def train_vision(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, helpers: Helpers, recipe: Recipe
) -> None:
    """Stage 1: the vision tower alone, on fresh scenes."""
    optimisers = Optimisers([model.model.visual, helpers], recipe, recipe.vision_steps)
    started = time.process_time()
    for number in range(recipe.vision_steps):
        rng = np.random.default_rng((recipe.seed, 0, number))
        scenes = [make_scene(rng) for _ in range(recipe.vision_images)]
        pixels = patchify([scene.image for scene in scenes], processor)
        with torch.autocast("cpu", torch.bfloat16):
            loss, right = helpers.what_loss(visual_tokens(model, pixels), cell_truth(scenes))
        optimisers.step(loss, number)
        if (number + 1) % 50 == 0:
            _report("vision", number + 1, recipe.vision_steps, started, right)


def train_imitation(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    helpers: Helpers,
    recipe: Recipe,
    out: Path,
) -> None:
    """Stage 2: the whole model imitates the crowd; saved now and then, so that a run can be looked at."""
    forward, make_batch = PackedForward(model, processor), BatchMaker(processor)
    optimisers = Optimisers([model, helpers], recipe, recipe.steps)
    started, recent = time.process_time(), 0.0
    for number in range(recipe.steps):
        first = number * recipe.images
        batch = make_batch([make_lesson(recipe.seed, first + i, recipe.questions) for i in range(recipe.images)])
        fading = max(0.0, 1 - number / (recipe.helpers_end * recipe.steps))
        with torch.autocast("cpu", torch.bfloat16):
            last, seen = forward(batch.pixels, batch.segments)
            imitation = imitation_loss(model, last, batch.targets)
            helping, values = helper_loss(helpers, seen, batch, Weights())
        optimisers.step(imitation + fading * helping, number)
        recent += (float(imitation.detach()) - recent) / min(number + 1, 50)
        if (number + 1) % 50 == 0:
            _report("imitation", number + 1, recipe.steps, started, {"loss": recent, **values})
        if (number + 1) % 400 == 0:
            save_policy(model, processor, out, torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the policy into")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    recipe = Recipe()
    processor = make_processor()
    model = make_model(processor, recipe.seed)
    torch.manual_seed(recipe.seed)  # the helpers' initialisation
    helpers = Helpers(WIDTH)
    train_vision(model, processor, helpers, recipe)
    save_policy(model, processor, out, torch.bfloat16)
    train_imitation(model, processor, helpers, recipe, out)
    save_policy(model, processor, out, torch.bfloat16)
    print_measurements(out)


if __name__ == "__main__":
    main()
