"""Dialogues as verl's V1 trainer wants them (``data.custom_cls`` of ``dialogue=rounds`` and ``conversations``)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch.utils.data import Dataset

from seg_zero.data.prompt_lengths import PromptLengths
from seg_zero.data.source import short_name
from seg_zero.dialogue.memory import Instance
from seg_zero.dialogue.renderers import renderer_for
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask
from seg_zero.policy.families import spec_of_family
from seg_zero.prompting import build_messages
from seg_zero.training.dialogue.agent_loop import SCRIPT
from seg_zero.training.dialogue.prompts import (
    RoundPrompt,
    history,
    round_info,
    round_prompt,
    round_truth,
    true_instance,
)
from seg_zero.training.dialogue.scripts import Script, earlier_answers, scripts_of
from seg_zero.training.row_files import names_of
from seg_zero.training.settings import CONVERSATIONS, DialogueSettings, from_mapping
from seg_zero.training.trainer.dataset import images_of, prompt_lengths_of


class DialogueDataset(Dataset):
    """Rounds with their history in the prompt, or whole dialogues for the agent loop; the argument list is verl's.

    ``data_files`` names files of dialogues. ``config`` is verl's ``data`` section with the keys of
    configs/data/rows.yaml and ``dialogue``, :class:`DialogueSettings`. A dialogue ends before the first round whose
    prompt, with true history, is longer than ``max_prompt_length``.
    """

    def __init__(
        self,
        data_files: str | Sequence[str],
        tokenizer: Any,
        config: DictConfig,
        processor: Any = None,
        max_samples: int = -1,
    ):
        self.spec = spec_of_family(**config.prompt)
        self.settings = from_mapping("dialogue", OmegaConf.to_container(config.dialogue), DialogueSettings)
        self.use = "training"  # of resizing; the trainer sets "answering" for held-out rows
        self.held_out = False  # set by the trainer; the names do not tell, since both may be the same
        self._renderer = renderer_for(self.settings.references, self.settings.carry)
        lengths = prompt_lengths_of(processor, self.spec, config)
        scripts = scripts_of(data_files, self.settings, max_samples, config.bad_rows)
        self.scripts = self._fitting(scripts, lengths, config.max_prompt_length)
        training = names_of(data_files) == names_of(config.train_files)
        path = self.settings.predictions if training else None
        self._answers = earlier_answers(path, self.scripts) if path is not None else {}
        self._rounds = [
            (place, number)
            for place, script in enumerate(self.scripts)
            for number in range(1, len(script.dialogue.rounds) + 1)
        ]

    def _fitting(self, scripts: Sequence[Script], lengths: PromptLengths, limit: int) -> list[Script]:
        kept = []
        for script in scripts:
            fitting = itertools.takewhile(lambda tokens: tokens <= limit, self._lengths(script, lengths))
            rounds = script.dialogue.rounds[: len(list(fitting))]
            if rounds:
                kept.append(replace(script, dialogue=replace(script.dialogue, rounds=rounds)))
        there = sum(len(one.dialogue.rounds) for one in scripts)
        left = sum(len(one.dialogue.rounds) for one in kept)
        if not kept:
            raise InputError(
                f"no question of {scripts[0].source} fits data.max_prompt_length={limit}; raise it or lower "
                "policy.image_size"
            )
        if left < there:
            print(
                f"{there - left} of {there} rounds of {scripts[0].source} are skipped: a prompt exceeds {limit} tokens"
            )
        return kept

    def _lengths(self, script: Script, lengths: PromptLengths) -> Iterator[int]:
        """Tokens of each round's prompt with true history. A blank picture does, since all have one size."""
        item = script.dialogue
        blank = Image.new("RGB", (item.width, item.height))
        earlier = self._true_history(script, len(item.rounds) + 1)
        for number, one in enumerate(item.rounds, start=1):
            instances = history(script, number, earlier[: number - 1])
            prompt = round_prompt(one, blank, instances, self._renderer, self.spec)
            yield lengths.of_round(prompt.question, prompt.rendered.context, len(prompt.rendered.pictures))

    def __len__(self) -> int:
        return len(self.scripts) if self.settings.rows == CONVERSATIONS else len(self._rounds)

    def __getitem__(self, index: int) -> dict[str, Any]:
        made = self._conversation(index) if self.settings.rows == CONVERSATIONS else self._round(index)
        made["extra_info"]["index"] = index
        # verl needs at least one tensor in a batch
        return {**made, "index": index, "dummy_tensor": torch.zeros(1, dtype=torch.uint8)}

    def _conversation(self, index: int) -> dict[str, Any]:
        script = self.scripts[index]
        validating = self.use == "answering"
        return {
            "raw_prompt": build_messages(script.dialogue.rounds[0].asked.question, self.spec),
            "data_source": short_name(script.source),
            "reward_model": {"style": "rule", "ground_truth": "[]"},  # the agent loop takes each round's own
            "extra_info": {
                "id": script.dialogue.id,
                SCRIPT: script,
                "use": self.use,
                "validating": validating,
                "held_out": self.held_out,
            },
        }

    def _round(self, index: int) -> dict[str, Any]:
        place, number = self._rounds[index]
        script = self.scripts[place]
        earlier = self._true_history(script, number)
        # torch's generator is the one that differs between loader processes.
        if self.use == "training" and float(torch.rand(())) >= self.settings.teacher_history:
            earlier = self._own_history(script, number)
        prompt = self._prompt(script, number, earlier)
        way = self.settings.references
        return {
            "raw_prompt": prompt.messages(self.spec, self.use),
            "data_source": short_name(script.source),
            "reward_model": {
                "style": "rule",
                "ground_truth": round_truth(script.dialogue.rounds[number - 1], self.spec),
            },
            "extra_info": round_info(script, number, prompt, self.spec, way, self.held_out),
        }

    def _prompt(self, script: Script, number: int, earlier: Sequence[Instance]) -> RoundPrompt:
        one, instances = script.dialogue.rounds[number - 1], history(script, number, earlier)
        return round_prompt(one, script.dialogue.picture(), instances, self._renderer, self.spec)

    def _true_history(self, script: Script, number: int) -> list[Instance]:
        return [true_instance(one, place) for place, one in enumerate(script.dialogue.rounds[: number - 1], start=1)]

    def _own_history(self, script: Script, number: int) -> list[Instance]:
        if number == 1:
            return []
        masks = self._answers[script.dialogue.id][: number - 1]
        questions = [one.asked.question for one in script.dialogue.rounds]
        return [Instance.of_mask(place, questions[place - 1], decode_mask(rle)) for place, rle in enumerate(masks, 1)]

    @classmethod
    async def process_multi_modal_info(
        cls, messages: Sequence[dict[str, Any]], image_patch_size: int, config: DictConfig
    ) -> tuple[list[Image.Image] | None, None, None]:
        """As :meth:`SegmentationDataset.process_multi_modal_info`."""
        return images_of(messages), None, None
