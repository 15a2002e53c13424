"""Adds to each checkpoint the files that verl does not write (``trainer.checkpoint_callback_class``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from seg_zero.policy.families import spec_of_family


class PromptSpecCallback(CheckpointCallback):
    """Saves the prompt settings beside the processor, so that they travel with the weights."""

    def on_save(
        self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool = False, **kwargs: Any
    ) -> None:
        folder = Path(checkpoint_dir) / "actor" / "huggingface"
        folder.mkdir(parents=True, exist_ok=True)
        spec_of_family(**self.config.data.prompt).save(folder)
