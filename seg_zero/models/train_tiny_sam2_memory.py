"""Train the video memory of the embedded tiny SAM2 on synthetic clips; all other weights stay as they are.

    python -m seg_zero.models.train_tiny_sam2_memory --out seg_zero/models/tiny_sam2

The memory attention and the memory encoder learn to carry the true mask of a clip's first frame through the next ones.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from seg_zero.data.synthetic.clips import make_clip
from seg_zero.models.train_tiny_sam2 import save_weights
from seg_zero.segmenter.files import TINY_FOLDER
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter, build_model, load_state

TRAINING_SEED = 40_000
CLIPS_PER_STEP, OBJECTS_PER_CLIP, FRAMES = 4, 2, 6
SIDES = (112, 112, 168)
PEAK_RATE, WARM_UP_STEPS = 1e-3, 50
TRAINED = ("memory_attention.", "memory_encoder.", "maskmem_tpos_enc")


def draw_batch(step: int) -> tuple[list[np.ndarray], torch.Tensor]:
    """Images, frame by frame (FRAMES x CLIPS_PER_STEP), and masks FRAMES x objects x H x W in 0..1."""
    rng = np.random.default_rng((TRAINING_SEED, step))
    side = int(rng.choice(SIDES))
    images: list[list[np.ndarray]] = [[] for _ in range(FRAMES)]
    masks: list[list[np.ndarray]] = [[] for _ in range(FRAMES)]
    for _ in range(CLIPS_PER_STEP):
        clip = make_clip(int(rng.integers(1 << 62)), side, max_speed=float(rng.choice((0.02, 0.06))))
        frames = [clip.frame(index) for index in range(FRAMES)]
        seen = np.flatnonzero(frames[0].masks.any((1, 2)))
        chosen = np.resize(rng.permutation(seen), OBJECTS_PER_CLIP)
        for index, frame in enumerate(frames):
            images[index].append(np.array(frame.image))
            masks[index] += [frame.masks[number] for number in chosen]
    stacked = torch.from_numpy(np.stack([np.stack(some) for some in masks])).float()
    return [image for some in images for image in some], stacked


def losses(segmenter: Sam2PackageSegmenter, step: int) -> tuple[torch.Tensor, float]:
    """The loss over the frames after the first, and the mean IoU of the last one."""
    model = segmenter.model
    images, truth = draw_batch(step)
    with torch.no_grad():
        encoded = model.forward_image(segmenter.prepare_images(images))
    bank: dict[str, dict[int, dict[str, torch.Tensor]]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    total, iou = torch.zeros(()), 0.0
    for index in range(FRAMES):
        rows = slice(index * CLIPS_PER_STEP, (index + 1) * CLIPS_PER_STEP)
        own = {
            key: [level[rows].repeat_interleave(OBJECTS_PER_CLIP, 0) for level in encoded[key]]
            for key in ("backbone_fpn", "vision_pos_enc")
        }
        _, features, positions, sizes = model._prepare_backbone_features(own)
        target = truth[index][:, None]
        first = index == 0
        prompt = F.interpolate(target, model.image_size, mode="bilinear", antialias=True) >= 0.5 if first else None
        out = model.track_step(
            index, first, features, positions, sizes, None, None if prompt is None else prompt.float(), bank, FRAMES
        )
        bank["cond_frame_outputs" if first else "non_cond_frame_outputs"][index] = out
        if first:
            continue
        logits = F.interpolate(out["pred_masks"], target.shape[-2:], mode="bilinear", align_corners=False)
        soft = logits.sigmoid()
        dice = 1 - (2 * (soft * target).sum((1, 2, 3)) + 1) / (soft.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)
        total = total + 5 * F.binary_cross_entropy_with_logits(logits, target) + dice.mean()
        with torch.no_grad():
            inside, true = logits > 0, target > 0.5
            both, either = (inside & true).sum((1, 2, 3)), (inside | true).sum((1, 2, 3))
            iou = float((both / either.clamp(min=1))[either > 0].mean())
    return total / (FRAMES - 1), iou


def train(folder: Path, steps: int, minutes: float) -> None:
    """Train for ``steps`` from a new memory and replace the weights in ``folder``.

    After ``minutes`` it stops and leaves its state beside them, from which the next call goes on.
    """
    torch.manual_seed(TRAINING_SEED)
    config = TINY_FOLDER / "tiny_sam2.yaml"
    segmenter = Sam2PackageSegmenter(build_model(config))
    model = segmenter.model
    known = load_state(TINY_FOLDER / "model.pt")
    state = {name: value for name, value in known.items() if not name.startswith(TRAINED)}
    _, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(TRAINED))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    print(f"{sum(p.numel() for p in trained):,} parameters, {steps} steps", flush=True)
    optimiser = torch.optim.AdamW(trained, lr=PEAK_RATE, betas=(0.9, 0.98))
    halfway = folder / "training.pt"
    begin = 0
    if halfway.is_file():
        saved = torch.load(halfway, map_location="cpu", weights_only=True)
        begin = saved["step"]
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
    folder.mkdir(parents=True, exist_ok=True)
    start, recent = time.monotonic(), list[float]()
    for step in range(begin, steps):
        rate = PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss, iou = losses(segmenter, step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        recent = [*recent[-49:], iou]
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}  loss {loss:.3f}  IoU {np.mean(recent):.3f}", flush=True)
        if time.monotonic() - start > 60 * minutes:
            resumable = {"step": step + 1, "model": model.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save(resumable, halfway)
            print(f"stopped after step {step + 1}; run the same command to go on", flush=True)
            return
    save_weights(segmenter, folder)
    halfway.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the video memory of the embedded tiny SAM2.")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.pt")
    parser.add_argument("--steps", type=int, default=800, help="about 0.7 s each on one CPU core")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; rerun to go on")
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.minutes)


if __name__ == "__main__":
    main()
