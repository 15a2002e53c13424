"""GRPO steps of the embedded policy in TRL's GRPOTrainer; benchmarks/training_speed.py runs it in TRL's environment.

    PYTHONPATH=. /tmp/trl/venv/bin/python benchmarks/trl_side.py --rows rows.parquet --steps 4

One JSON line per step: step, seconds, samples, tokens (generated), reward (mean); before them the line "ready", when
the first step begins. Times are from the end of one step to the end of the next.

Equal to our run: rows and their order, image and prompt of each (seg_zero.prompting), reward (preset seg_zero), 16
prompts x 8 answers per step of at most 96 tokens at temperature 1, one AdamW update per step over all 128, learning
rate, weight decay, clipping, KL and entropy coefficients, token-mean loss ("dapo" in TRL), a reference model, float32,
two threads, no gradient checkpointing, PyTorch's attention. TRL's own: all 128 are generated in one batch and padded to
the longest of them, in micro-batches too; before the update there is a pass for log-probabilities if vLLM generates.
Ours pads micro-batches of like length, and neither of the two has that pass otherwise: one update per batch needs none.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from seg_zero import rewards
from seg_zero.data.augmentation import whole
from seg_zero.data.ground_truth import ground_truth, seen_mask
from seg_zero.data.source import open_rows
from seg_zero.masks import decode_mask, encode_mask
from seg_zero.policy.model_files import TINY_POLICY
from seg_zero.prompting import PromptSpec, build_messages, resize_for_policy, to_policy_pixels

PROMPTS, SAMPLES = 16, 8


def make_dataset(path: str, spec: PromptSpec) -> Dataset:
    """prompt (messages with a place for the image), images, and the solution and the mask in the policy's pixels."""
    found = []
    for row in open_rows(path):
        image = row.image()
        objects = [to_policy_pixels(item, spec, *image.size) for item in row.objects()]
        prompt = build_messages(row.problem, spec)
        found.append(
            {
                "prompt": prompt,
                "images": [resize_for_policy(image, spec, "training")],
                "solution": ground_truth(objects, spec),
                "mask": encode_mask(seen_mask(row.mask, whole(image.size), (spec.answer_side, spec.answer_side))),
            }
        )
    return Dataset.from_list(found)


class Steps(TrainerCallback):
    """Prints what each step took; the reward function leaves the rest here."""

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}
        self.last = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        print("ready", flush=True)
        self.last = time.perf_counter()

    def on_step_end(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        print(json.dumps({"step": state.global_step, "seconds": now - self.last, **self.seen}), flush=True)
        self.last = now


def prepare_vllm() -> None:
    """Let TRL start vLLM's CPU build in this process, with weights that an update can reach."""
    from vllm import _custom_ops

    from seg_zero.training.cpu.upstream_fixes import answer_for_vllm_metadata

    answer_for_vllm_metadata()  # vLLM chooses its platform by the version of a distribution named "vllm"
    _custom_ops._supports_onednn = False  # packed weights would leave an update nowhere to go


def float32_policy(folder: Path) -> Path:
    """A copy of the embedded policy that says it is float32: TRL gives vLLM a folder, and no dtype."""
    shutil.copytree(TINY_POLICY, folder, ignore=shutil.ignore_patterns("README.md"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    return folder


def settings(output: str, steps: int, micro_batch: int, vllm: bool) -> GRPOConfig:
    """TRL's configuration; micro_batch: samples per backward pass."""
    return GRPOConfig(
        output_dir=output,
        max_steps=steps,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=PROMPTS * SAMPLES // micro_batch,
        steps_per_generation=PROMPTS * SAMPLES // micro_batch,
        num_generations=SAMPLES,
        num_iterations=1,
        max_completion_length=96,
        temperature=1.0,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        weight_decay=1e-2,
        max_grad_norm=1.0,
        optim="adamw_torch",
        loss_type="dapo",
        beta=5e-3,
        use_bias_correction_kl=False,
        entropy_coef=1e-3,
        epsilon=0.2,
        scale_rewards="group",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        shuffle_dataset=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=1,
        use_vllm=vllm,
        vllm_mode="colocate",
        vllm_max_model_length=512,
        vllm_gpu_memory_utilization=0.12,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", required=True, help="parquet file")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--micro_batch", type=int, default=16, help="samples per backward pass (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vllm", action="store_true", help="answers from vLLM's CPU build in the same process")
    args = parser.parse_args()
    if args.vllm:
        prepare_vllm()
    torch.set_num_threads(args.threads)
    spec = PromptSpec.load(TINY_POLICY)
    assert spec is not None
    steps = Steps()

    def reward(
        completions: list[Any],
        solution: list[str],
        mask: list[dict[str, Any]],
        completion_ids: list[list[int]],
        **_: Any,
    ) -> list[float]:
        size = (spec.image_size, spec.image_size)
        texts = [completion[0]["content"] for completion in completions]
        texts = [text if isinstance(text, str) else text[0]["text"] for text in texts]
        found = [
            rewards.compute("seg_zero", text, truth, size, true_mask=decode_mask(rle))["total"]
            for text, truth, rle in zip(texts, solution, mask, strict=True)
        ]
        tokens = sum(len(ids) for ids in completion_ids)
        steps.seen = {"samples": len(found), "tokens": tokens, "reward": sum(found) / len(found)}
        return found

    with tempfile.TemporaryDirectory() as output:
        policy = float32_policy(Path(output) / "policy")
        trainer = GRPOTrainer(
            model=AutoModelForImageTextToText.from_pretrained(policy, dtype=torch.float32, attn_implementation="sdpa"),
            reward_funcs=reward,
            args=settings(output, args.steps, args.micro_batch, args.vllm),
            train_dataset=make_dataset(args.rows, spec),
            processing_class=AutoProcessor.from_pretrained(policy, padding_side="left"),
            callbacks=[steps],
        )
        trainer.train()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
