"""Dataset rows as verl's V1 trainer wants them (``data.custom_cls``).

Prompts and images come from :mod:`seg_zero.prompting` alone, so that training asks exactly what
inference and evaluation ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image
from torch.utils.data import Dataset

from seg_zero.answer import write_solution_multi, write_solution_single
from seg_zero.data.rows import Row, read_rows
from seg_zero.errors import InputError
from seg_zero.prompting import PromptSpec, build_messages, resize_for_policy, to_policy_pixels


def ground_truth_of(row: Row, spec: PromptSpec) -> str:
    """The row's solution in pixels of the square that the policy sees, in the format its template asks for."""
    with row.image() as image:
        width, height = image.size
    objects = [to_policy_pixels(item, spec, width, height) for item in row.objects()]
    try:
        return write_solution_multi(objects) if spec.multi else write_solution_single(_only(objects))
    except ValueError as error:
        raise InputError(f"row {row.id!r}: {error}; template {spec.template!r} needs it") from error


def _only(objects: Sequence[Any]) -> Any:
    if len(objects) != 1:
        raise ValueError(f"a single-object prompt needs one object, the solution has {len(objects)}")
    return objects[0]


def images_of(messages: Sequence[dict[str, Any]]) -> list[Image.Image] | None:
    """The images in chat messages, in order; None if there are none."""
    contents = (m["content"] for m in messages if not isinstance(m["content"], str))
    found = [part["image"] for content in contents for part in content if part["type"] == "image"]
    return found or None


class PromptLengths:
    """Number of prompt tokens, image tokens included, without processing the images.

    All images have one size, so the processor runs once; a question adds its own text tokens.
    """

    def __init__(self, processor: Any, spec: PromptSpec, processor_kwargs: dict[str, Any]):
        self._processor, self._spec = processor, spec
        probe = Image.new("RGB", (spec.image_size, spec.image_size))
        text = self._render("probe")
        self._image_tokens = len(
            processor(text=[text], images=[probe], **processor_kwargs)["input_ids"][0]
        ) - self._text_tokens(text)

    def _render(self, question: str) -> str:
        messages = build_messages(question, self._spec)
        return self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def _text_tokens(self, text: str) -> int:
        return len(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def __call__(self, question: str) -> int:
        return self._image_tokens + self._text_tokens(self._render(question))


def keep_short(rows: Sequence[Row], lengths: PromptLengths, limit: int, name: str) -> list[Row]:
    """Rows whose prompt has at most ``limit`` tokens; prints how many were left out.

    Raises InputError if none is left.
    """
    counted = [(row, lengths(row.problem)) for row in rows]
    kept = [row for row, length in counted if length <= limit]
    if rows and not kept:
        shortest = min(length for _, length in counted)
        raise InputError(
            f"every prompt of {name} is longer than data.max_prompt_length={limit} tokens (the shortest has "
            f"{shortest}, image included); raise data.max_prompt_length or lower policy.image_size"
        )
    if len(kept) < len(rows):
        print(f"{len(rows) - len(kept)} of {len(rows)} prompts of {name} exceed {limit} tokens and are left out")
    return kept


class SegmentationDataset(Dataset):
    """Rows of one or more parquet files; the argument list is verl's.

    ``config`` is verl's ``data`` section; ``config.prompt`` holds the fields of :class:`PromptSpec`.
    """

    def __init__(
        self,
        data_files: str | Sequence[str],
        tokenizer: Any,
        config: DictConfig,
        processor: Any = None,
        max_samples: int = -1,
    ):
        if processor is None:
            raise InputError("the policy folder has no image processor; copy preprocessor_config.json there")
        files = [data_files] if isinstance(data_files, str) else [str(file) for file in data_files]
        self.spec = PromptSpec(template=config.prompt.template, image_size=config.prompt.image_size)
        rows = [row for file in files for row in read_rows(Path(file).expanduser())]
        if 0 < max_samples < len(rows):
            rows = rows[:max_samples]
        lengths = PromptLengths(processor, self.spec, dict(config.mm_processor_kwargs))
        self.rows = keep_short(rows, lengths, config.max_prompt_length, ", ".join(map(str, files)))
        self.source = Path(files[0]).stem if files else "none"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row, side = self.rows[index], self.spec.image_size
        image = resize_for_policy(row.image(), self.spec)
        return {
            "raw_prompt": build_messages(row.problem, self.spec, image),
            "data_source": self.source,
            "reward_model": {"style": "rule", "ground_truth": ground_truth_of(row, self.spec)},
            "extra_info": {"id": row.id, "kind": row.kind, "image_size": (side, side), "index": index},
            "index": index,
            "dummy_tensor": torch.zeros(1, dtype=torch.uint8),  # verl needs at least one tensor in a batch
        }

    @classmethod
    async def process_multi_modal_info(
        cls, messages: Sequence[dict[str, Any]], image_patch_size: int, config: DictConfig
    ) -> tuple[list[Image.Image] | None, None, None]:
        """Images, videos and audios for verl's agent loop: the images as they are, already at their size."""
        return images_of(messages), None, None
