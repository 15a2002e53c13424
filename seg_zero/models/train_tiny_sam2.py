"""Train the embedded tiny SAM2 from scratch on synthetic scenes, on one CPU core.

    python -m seg_zero.models.train_tiny_sam2 --out seg_zero/models/tiny_sam2

Every object of a scene is a prompt, so that the mask follows the prompt and not the scene. The folder
then loads with ``load_segmenter(folder)``.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from seg_zero.data.synthetic.scenes import Sample, SceneObject, make_samples, make_scene
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.segmenter.files import TINY_FOLDER
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter, build_model

TRAINING_SEED = 20_000
HELD_OUT_SEED = 77  # scenes of another random stream than those of training
SCENES_PER_STEP, PROMPTS_PER_SCENE = 12, 4
SIDES = (112, 112, 112, 168)  # of a step's scenes, in pixels
# Prompt of a step: (with box, points). One kind per step keeps the tokens as they are in use.
PROMPT_KINDS = ((True, 1), (True, 2), (True, 0), (False, 1))
PROMPT_SHARES = (0.30, 0.25, 0.35, 0.10)
MAX_BOX_JITTER = 0.2  # of the box's sides
POINT_NOISE = 0.015  # of the image side, for points beside a box
PEAK_RATE, WARM_UP_STEPS = 5e-4, 100


@dataclass(frozen=True)
class Batch:
    """images: B x 3 x S x S; coordinates: P x T x 2 in pixels of S; labels: P x T (1 point, 2 and 3 box
    corners); masks: P x H x W in 0..1. P is B times PROMPTS_PER_SCENE, scene by scene."""

    images: torch.Tensor
    coordinates: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor


def _noisy_prompt(
    rng: np.random.Generator, item: SceneObject, with_box: bool, points: int
) -> list[tuple[float, float]]:
    """Box corners (if any), then points, in pixels of the scene."""
    side = item.mask.shape[0]
    tokens: list[tuple[float, float]] = []
    if with_box:
        assert item.prompt.box is not None
        x1, y1, x2, y2 = item.prompt.box
        jitter = rng.uniform(0, MAX_BOX_JITTER)
        dx = rng.uniform(-jitter, jitter, size=2) * (x2 - x1)
        dy = rng.uniform(-jitter, jitter, size=2) * (y2 - y1)
        tokens += [(x1 + dx[0], y1 + dy[0]), (x2 + dx[1], y2 + dy[1])]
    ys, xs = np.nonzero(item.mask)
    for index in range(points):
        if rng.random() < 0.5:
            x, y = item.prompt.points[index]
        else:
            pixel = int(rng.integers(len(xs)))
            x, y = float(xs[pixel]), float(ys[pixel])
        if with_box:  # beside a box a point may miss; alone it has to be right
            x, y = x + rng.normal(0, POINT_NOISE * side), y + rng.normal(0, POINT_NOISE * side)
        tokens.append((x, y))
    return [(min(max(x, 0.0), side), min(max(y, 0.0), side)) for x, y in tokens]


def draw_batch(segmenter: Sam2PackageSegmenter, step: int) -> Batch:
    """The batch of a step; a function of the step alone."""
    rng = np.random.default_rng((TRAINING_SEED, step))
    side = int(rng.choice(SIDES))
    with_box, points = PROMPT_KINDS[int(rng.choice(len(PROMPT_KINDS), p=PROMPT_SHARES))]
    images, coordinates, masks = [], [], []
    for _ in range(SCENES_PER_STEP):
        scene = make_scene(rng, side)
        images.append(np.array(scene.image))
        for index in np.resize(rng.permutation(len(scene.objects)), PROMPTS_PER_SCENE):
            item = scene.objects[int(index)]
            coordinates.append(_noisy_prompt(rng, item, with_box, points))
            masks.append(item.mask)
    labels = torch.tensor([2, 3] * with_box + [1] * points, dtype=torch.int).repeat(len(masks), 1)
    scale = segmenter.model.image_size / side
    return Batch(
        segmenter.prepare_images(images),
        torch.tensor(coordinates, dtype=torch.float32) * scale,
        labels,
        torch.from_numpy(np.stack(masks)).float(),
    )


def predict(segmenter: Sam2PackageSegmenter, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask logits P x 4 x H x W (the single-mask token, then three candidates) and predicted IoUs P x 4."""
    model = segmenter.model
    features = [f.repeat_interleave(PROMPTS_PER_SCENE, 0) for f in model.forward_image(batch.images)["backbone_fpn"]]
    sparse, dense = model.sam_prompt_encoder(points=(batch.coordinates, batch.labels), boxes=None, masks=None)
    logits, quality, _, _ = model.sam_mask_decoder.predict_masks(
        image_embeddings=features[-1],
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=features[:-1],
    )
    return F.interpolate(logits, batch.masks.shape[-2:], mode="bilinear", align_corners=False), quality


def loss_of(logits: torch.Tensor, quality: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Training loss, and the IoUs P x 4 of the thresholded masks."""
    truth = masks[:, None].expand_as(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((2, 3))
    soft = logits.sigmoid()
    dice = 1 - (2 * (soft * truth).sum((2, 3)) + 1) / (soft.sum((2, 3)) + truth.sum((2, 3)) + 1)
    per_mask = 5 * cross_entropy + dice
    candidates = per_mask[:, 1:]
    # The best candidate learns most; the small weight of the mean keeps the others from dying.
    mask_loss = per_mask[:, 0] + candidates.min(1).values + 0.2 * candidates.mean(1)
    with torch.no_grad():
        inside = logits > 0
        both = (inside & (truth > 0.5)).sum((2, 3))
        iou = both / (inside | (truth > 0.5)).sum((2, 3)).clamp(min=1)
    return mask_loss.mean() + 0.5 * (quality - iou).abs().mean(), iou


def iou_of_true_boxes(segmenter: Segmenter, samples: Iterable[Sample]) -> float:
    """Mean IoU over all objects of the samples' scenes, each prompted with its true box alone."""
    ious = []
    for sample in samples:
        objects = sample.scene.objects
        boxes = [type(item.prompt)(item.prompt.box) for item in objects]
        found = segmenter.segment(sample.scene.image, boxes).masks
        ious += [(m & o.mask).sum() / (m | o.mask).sum() for m, o in zip(found, objects, strict=True)]
    return float(np.mean(ious))


def save_weights(segmenter: Sam2PackageSegmenter, folder: Path) -> None:
    """Write ``model.pt`` in half precision (it is cast when loaded), replacing the old file at once."""
    weights = {name: value.half() for name, value in segmenter.model.state_dict().items()}
    temporary = folder / "model.pt.partial"
    torch.save({"model": weights}, temporary)
    os.replace(temporary, folder / "model.pt")


def train(folder: Path, steps: int, held_out: int) -> None:
    """Train for ``steps`` and leave the configuration and the weights in ``folder``."""
    torch.manual_seed(TRAINING_SEED)
    config = TINY_FOLDER / "tiny_sam2.yaml"
    segmenter = Sam2PackageSegmenter(build_model(config))
    folder.mkdir(parents=True, exist_ok=True)
    if folder.resolve() != TINY_FOLDER:
        (folder / config.name).write_bytes(config.read_bytes())
    model = segmenter.model
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98))
    start = time.process_time()
    recent: list[float] = []
    for step in range(steps):
        share = step / steps
        rate = PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * share)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = draw_batch(segmenter, step)
        model.train()
        loss, iou = loss_of(*predict(segmenter, batch), batch.masks)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        model.eval()
        recent = [*recent[-49:], float(iou[:, 0].mean())]
        if (step + 1) % 50 == 0:
            minutes = (time.process_time() - start) / 60
            print(f"step {step + 1}  loss {loss:.3f}  IoU {np.mean(recent):.3f}  {minutes:.1f} CPU min", flush=True)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            save_weights(segmenter, folder)
            saved = load_segmenter(folder, device="cpu")
            result = iou_of_true_boxes(saved, make_samples(HELD_OUT_SEED, held_out))
            print(f"step {step + 1}  held-out IoU, true boxes, {held_out} scenes: {result:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded tiny SAM2 from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.pt and its configuration")
    parser.add_argument("--steps", type=int, default=3000, help="about 0.3 s each on one CPU core")
    parser.add_argument("--held-out", type=int, default=200, help="scenes of each evaluation")
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.held_out)


if __name__ == "__main__":
    main()
