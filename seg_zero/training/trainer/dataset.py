"""Dataset rows as verl's V1 trainer wants them (``data.custom_cls``).

Prompts and images come only from :mod:`seg_zero.prompting`, so training uses exactly the prompts of
inference and evaluation.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch.utils.data import Dataset

from seg_zero.data.augmentation import Augmentation, View, choose_view, whole
from seg_zero.data.ground_truth import ground_truth
from seg_zero.data.prompt_lengths import PromptLengths, keep_short
from seg_zero.data.rows import Row
from seg_zero.data.source import RowSource, short_name
from seg_zero.errors import InputError
from seg_zero.policy.families import spec_of_family
from seg_zero.policy.processors import check_processor
from seg_zero.prompting import PromptSpec, build_messages, resize_for_policy, to_policy_pixels
from seg_zero.training.row_files import chosen_rows, names_of


def ground_truth_of(row: Row, spec: PromptSpec, view: View) -> str:
    """The row's solution in the coordinates of answers and the format of its template."""
    objects = [to_policy_pixels(view.to_view(item), spec, *view.size) for item in row.objects()]
    try:
        return ground_truth(objects, spec)
    except ValueError as error:
        raise InputError(f"row {row.id!r}: {error}; template {spec.template!r} needs it") from error


def prompt_lengths_of(processor: Any, spec: PromptSpec, config: DictConfig) -> PromptLengths:
    """What counts the tokens of prompts. config: verl's ``data``.

    Raises InputError if the policy has no image processor, one of another family, or one that resizes images again.
    """
    if processor is None:
        raise InputError("the policy folder has no image processor; copy preprocessor_config.json there")
    check_processor(processor, spec, "the policy")
    lengths = PromptLengths(processor, spec, dict(config.mm_processor_kwargs))
    if abs(lengths.image_tokens - spec.image_tokens) > 1:  # a prompt's placeholder may be one of them
        raise InputError(
            f"the processor of the policy resizes images of {spec.image_size} pixels, the size that "
            f"policy.image_size says: {lengths.image_tokens} tokens instead of {spec.image_tokens}; correct "
            "policy.min_pixels and policy.max_pixels, or the size in the policy's processor files"
        )
    return lengths


def images_of(messages: Sequence[dict[str, Any]]) -> list[Image.Image] | None:
    """The images in chat messages, in order; None if there are none."""
    contents = (m["content"] for m in messages if not isinstance(m["content"], str))
    found = [part["image"] for content in contents for part in content if part["type"] == "image"]
    return found or None


class SegmentationDataset(Dataset):
    """Rows of one or more datasets; the argument list is verl's.

    ``data_files`` holds names that :func:`seg_zero.data.source.open_rows` accepts. ``config`` is verl's
    ``data`` section with the keys of configs/data/rows.yaml: ``prompt`` (arguments of :func:`spec_of_family`),
    ``augmentation`` (fields of :class:`Augmentation`; for training rows only), ``bad_rows`` (rows to skip).
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
        lengths = prompt_lengths_of(processor, self.spec, config)
        # verl does not say which split it wants.
        training = names_of(data_files) == names_of(config.train_files)
        self.use = "training"  # of resizing; the trainer sets "answering" for held-out rows
        self.held_out = False  # set by the trainer; the names do not tell, since both may be the same
        self.augmentation = Augmentation(**config.augmentation) if training else Augmentation()
        self.sources: list[RowSource] = [
            keep_short(source, lengths, config.max_prompt_length)
            for source in chosen_rows(data_files, training, max_samples, config.bad_rows)
        ]
        self._ends = list(itertools.accumulate(map(len, self.sources)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        part = bisect.bisect_right(self._ends, index)
        source, place = self.sources[part], index - (self._ends[part - 1] if part else 0)
        row, side = source[place], self.spec.answer_side
        image = row.image()
        view = self._view(image.size, row)
        picture = resize_for_policy(view.picture(image), self.spec, self.use)
        return {
            "raw_prompt": build_messages(row.problem, self.spec, picture),
            "data_source": short_name(source.name),
            "reward_model": {"style": "rule", "ground_truth": ground_truth_of(row, self.spec, view)},
            "extra_info": {
                "id": row.id,
                "question": row.problem,
                "kind": row.kind,
                "image_size": (side, side),  # in the coordinates of answers
                "index": index,
                "source": source.name,
                "row": source.number(place),
                "view": {"window": list(view.window), "flipped": view.flipped},
                "mask": row.mask,  # of the stored image; the reward decodes it if a term looks at it
                "held_out": self.held_out,
            },
            "index": index,
            "dummy_tensor": torch.zeros(1, dtype=torch.uint8),  # verl needs at least one tensor in a batch
        }

    def _view(self, size: tuple[int, int], row: Row) -> View:
        if self.augmentation == Augmentation():
            return whole(size)
        # torch's generator is the one that differs between loader processes.
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        return choose_view(size, row.objects(), row.problem, self.augmentation, rng)

    @classmethod
    async def process_multi_modal_info(
        cls, messages: Sequence[dict[str, Any]], image_patch_size: int, config: DictConfig
    ) -> tuple[list[Image.Image] | None, None, None]:
        """Images, videos and audios for verl's agent loop: the images as they are, already at their size."""
        return images_of(messages), None, None
