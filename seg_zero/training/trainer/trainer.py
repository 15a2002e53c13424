"""verl's synchronous trainer with what a run over several days needs (``trainer.v1.trainer_mode=seg_zero``).

It adds complete checkpoints, of which the best is kept; validation by masks; a limit on updates that are not finite;
and an orderly end on request. The training step itself is verl's.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from seg_zero.files import write_image, write_json, write_text
from seg_zero.training import queue_images
from seg_zero.training.dialogue.advantage import credited, name_samples
from seg_zero.training.dialogue.agent_loop import EACH_ROUND
from seg_zero.training.engine import one_update
from seg_zero.training.engine.shared_prefix import groups
from seg_zero.training.run_files import RunFiles
from seg_zero.training.settings import (
    CONVERSATIONS,
    DIALOGUE_GRPO,
    CheckpointSettings,
    DialogueSettings,
    EngineSettings,
    HealthSettings,
    ValidationSettings,
    read,
)
from seg_zero.training.trainer import validation
from seg_zero.training.trainer.checkpoints import METRICS, Checkpoints


@register_trainer("seg_zero")
class SegZeroTrainer(PPOTrainerSync):
    """Settings: ``checkpoints.*``, ``validation.*`` and ``health.*`` of configs/grpo.yaml."""

    def __init__(self, config: DictConfig) -> None:
        self.files = RunFiles(Path(config.output_dir))
        self.checkpoint_settings = read(config, CheckpointSettings)
        self.validation_settings = read(config, ValidationSettings)
        self.health_settings = read(config, HealthSettings)
        self.checkpoints = Checkpoints(
            Path(config.trainer.default_local_dir),
            self.checkpoint_settings.keep_last,
            self.checkpoint_settings.keep_best,
        )
        self._rows = 0
        self._not_finite = self._not_finite_in_a_row = 0
        self._held_out: tuple[list[str], dict[str, list[Any]]] | None = None
        self._trained: tuple[KVBatchMeta, dict[str, Any], float] | None = None
        switches = read(config, EngineSettings)
        self._shares_prefixes, self._stores_images = switches.shared_prefix, switches.group_rollouts
        self._plays_dialogues = read(config, DialogueSettings).rows == CONVERSATIONS
        self._updates = config.data.train_batch_size // config.actor_rollout_ref.actor.ppo_mini_batch_size
        self._one_update = one_update.applies(config)
        if self._one_update:
            one_update.leave_out_pass(config)
        super().__init__(config)

    @property
    def trainer_mode(self) -> str:
        """The mode as verl names it: this trainer runs verl's synchronous mode."""
        return "sync"

    @trainer_mode.setter
    def trainer_mode(self, _: str) -> None: ...

    def fit(self, agent_loop_manager: Any) -> None:
        buffer: Any = self.replay_buffer
        buffer.wait = agent_loop_manager.wait
        super().fit(agent_loop_manager)

    # Progress and an orderly end

    def on_sample_begin(self) -> None:
        self.files.write_phase(self.global_steps, "sampling answers (vLLM)")
        super().on_sample_begin()

    def on_sample_end(self) -> None:
        super().on_sample_end()
        self.files.write_phase(self.global_steps, "updating the policy (FSDP)")

    def on_validate_begin(self) -> None:
        self.files.write_phase(self.global_steps, "validating")
        super().on_validate_begin()

    def on_step_end(self) -> None:
        self.files.write_phase(self.global_steps, "sending weights to vLLM")
        super().on_step_end()
        if self.files.stop_requested():
            if self.global_steps not in self.checkpoints.steps():
                self._save_checkpoint()
            self.total_training_steps = self.global_steps  # verl's loop ends after this step
            print(f"stopping after step {self.global_steps}, as asked", flush=True)

    # Data

    def _init_dataloader(self) -> None:
        self.files.write_stage("opening the dataset")
        super()._init_dataloader()
        self.files.write_stage("loading the policy (FSDP)")  # what verl does next
        self.val_dataset.use = "answering"
        self.val_dataset.held_out = bool(self.config.data.segment_held_out)

    def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
        batch = super()._next_train_batch(num_prompts)
        self._rows = zlib.crc32(np.asarray(list(batch["index"]), dtype=np.int64).tobytes(), self._rows)
        return batch

    def prepare_step(self) -> dict[str, float]:
        """Also logs which rows the step draws, as a checksum: equal in runs that see the same rows."""
        self._rows = 0
        metrics = super().prepare_step()
        return {**metrics, "data/rows_crc32": float(self._rows)}

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        """Conversations have any number of rounds, and an update all those of its dialogues: few are padded."""
        if not self._plays_dialogues:
            return int(super()._get_required_batch_multiple(dp_size))
        return self._updates * math.lcm(dp_size, self.config.actor_rollout_ref.rollout.n)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        if self.config.algorithm.adv_estimator != DIALOGUE_GRPO:
            return super()._compute_advantage(batch, metrics)
        name_samples(batch)
        batch = super()._compute_advantage(batch, metrics)
        metrics.update(credited(batch))
        return batch

    def _balance_batch(
        self,
        batch: KVBatchMeta,
        metrics: dict[str, Any],
        logging_prefix: str = "global_seqlen",
        keep_minibatch: bool = False,
    ) -> KVBatchMeta:
        """With shared prefixes, workers get whole groups and about as many tokens as the others, prompts once."""
        batch = super()._balance_batch(batch, metrics, logging_prefix, keep_minibatch)
        if self._shares_prefixes:
            ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
            order, costs = groups.balance(batch.keys, batch.tags, ranks)
            batch.reorder(order)
            metrics[f"{logging_prefix}/balanced_min"] = min(costs)
            metrics[f"{logging_prefix}/balanced_max"] = max(costs)
        return batch

    # Checkpoints

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> KVBatchMeta:
        start = time.perf_counter()
        batch = super().step(metrics, timing_raw)
        if self._stores_images:
            queue_images.clear()
        self._trained = batch, metrics, time.perf_counter() - start
        return batch

    def _metrics_so_far(self) -> dict[str, float]:
        """The step's row of the log, without what comes after the update: times, validation."""
        assert self._trained is not None
        batch, metrics, seconds = self._trained
        row, times = dict(metrics), {**self.timing_raw, "step": seconds}
        self._compute_metrics(batch, row, times, self.global_steps, (self.global_steps - 1) // self.steps_per_epoch)
        kinds = (int, float, np.floating, np.integer)
        numbers = {name: float(value) for name, value in row.items() if isinstance(value, kinds)}
        return {"step": self.global_steps, **{n: value for n, value in numbers.items() if math.isfinite(value)}}

    def _save_checkpoint(self) -> None:
        folder = self.config.trainer.default_local_dir
        with self.checkpoints.writing(self.global_steps) as partial:
            with open_dict(self.config):
                self.config.trainer.default_local_dir = str(partial)
            try:
                super()._save_checkpoint()
            finally:
                with open_dict(self.config):
                    self.config.trainer.default_local_dir = folder
            # verl logs a step last; a run that ends in between does not do it again, and must not lose its row.
            write_json(partial / f"global_step_{self.global_steps}" / METRICS, self._metrics_so_far())

    # Validation

    def _dump_generations(
        self,
        inputs: list[str],
        outputs: list[str],
        gts: list[str],
        scores: list[float],
        reward_extra_infos_dict: dict[str, list[Any]],
        dump_path: str,
    ) -> None:
        if dump_path == self.config.trainer.validation_data_dir:
            if EACH_ROUND in reward_extra_infos_dict:
                reward_extra_infos_dict = validation.each_round(reward_extra_infos_dict)
                scores = [float(value) for value in reward_extra_infos_dict["score"]]
            self._held_out = outputs, reward_extra_infos_dict
        super()._dump_generations(inputs, outputs, gts, scores, reward_extra_infos_dict, dump_path)

    def _validate(self) -> dict[str, float]:
        metrics: dict[str, float] = super()._validate()
        assert self._held_out is not None
        texts, infos = self._held_out
        samples = validation.read_samples(texts, infos)
        metrics.update(validation.summarise(samples))
        self._show_histograms(validation.term_values(infos))
        shown = samples[: self.validation_settings.pictures]
        if shown:
            self._show_pictures(shown)
        if self.global_steps:
            self._note_result(metrics)
        return metrics

    def _note_result(self, metrics: dict[str, float]) -> None:
        name = self.checkpoint_settings.best_by
        value = metrics.get(name)
        if value is None or not self.checkpoint_settings.keep_best:
            return
        if self.checkpoints.is_better(name, value) and self.global_steps not in self.checkpoints.steps():
            self._save_checkpoint()
        if self.global_steps in self.checkpoints.steps() and self.checkpoints.note(self.global_steps, name, value):
            print(f"best checkpoint so far: step {self.global_steps}, {name} {value:.4f}", flush=True)

    def _show_histograms(self, values: dict[str, list[float]]) -> None:
        path = self.files.folder / "validation_histograms.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] < self.global_steps]
        terms = {name: validation.histogram(found) for name, found in values.items()}
        write_text(path, "\n".join([*kept, json.dumps({"step": self.global_steps, "terms": terms})]) + "\n")
        loggers = self.logger.logger
        for name, found in values.items():
            if "tensorboard" in loggers:
                loggers["tensorboard"].writer.add_histogram(f"validation/{name}", np.array(found), self.global_steps)
        if "wandb" in loggers:
            import wandb

            data = {f"validation_histogram/{name}": wandb.Histogram(found) for name, found in values.items()}
            loggers["wandb"].log(data, step=self.global_steps)

    def _show_pictures(self, samples: list[validation.HeldOut]) -> None:
        sheet = validation.draw_samples(samples, self.val_dataset.spec)
        write_image(self.files.folder / "validation" / f"{self.global_steps}.png", sheet)
        loggers = self.logger.logger
        if "tensorboard" in loggers:
            pixels = np.asarray(sheet)
            loggers["tensorboard"].writer.add_image("validation/samples", pixels, self.global_steps, dataformats="HWC")
        if "wandb" in loggers:
            import wandb

            loggers["wandb"].log({"validation/samples": wandb.Image(sheet)}, step=self.global_steps)

    # Health

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """verl skips updates whose gradient is not finite; here they are also counted, and too many end the run."""
        if self._one_update:
            batch.extra_info.update(one_update.settings(self.config))
        with self._whole_updates(batch):
            batch = super()._update_actor(batch, metrics)
        if self._one_update:
            one_update.rename(metrics)
        names = ("actor/grad_norm", "actor/pg_loss")
        finite = all(math.isfinite(float(metrics.get(name, 0.0))) for name in names)
        self._not_finite += not finite
        self._not_finite_in_a_row = 0 if finite else self._not_finite_in_a_row + 1
        metrics["training/updates_not_finite"] = float(self._not_finite)
        limit = self.health_settings.stop_after_not_finite
        if self._not_finite_in_a_row >= limit:
            path = self._dump_batch(batch)
            raise RuntimeError(
                f"loss or gradient was not finite in {limit} updates in a row, the last in step {self.global_steps}; "
                f"the batch is in {path}; lower worker.actor.optim.lr, or look for the first bad term in metrics.jsonl"
            )
        return batch

    @contextmanager
    def _whole_updates(self, batch: KVBatchMeta) -> Iterator[None]:
        """As many updates as the configuration says, although verl counts a dialogue as one answer per session."""
        if not self._plays_dialogues:
            yield
            return
        actor = self.config.actor_rollout_ref.actor
        before = actor.ppo_mini_batch_size
        actor.ppo_mini_batch_size = len(batch) // (self._updates * self.config.actor_rollout_ref.rollout.n)
        try:
            yield
        finally:
            actor.ppo_mini_batch_size = before

    def _dump_batch(self, batch: KVBatchMeta) -> Path:
        """Keep the samples of a step for study: tensors in a file of torch, texts beside it."""
        path = self.files.folder / f"not_finite_step_{self.global_steps}"
        path.mkdir(parents=True, exist_ok=True)
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id)
        tensors = {name: list(value.unbind()) for name, value in data.items() if isinstance(value, torch.Tensor)}
        torch.save(tensors, path / "tensors.pt")
        texts = [self.tokenizer.decode(ids) for ids in tensors.get("responses", [])]
        write_json(path / "responses.json", {"keys": list(batch.keys), "responses": texts, "time": time.time()})
        return path
