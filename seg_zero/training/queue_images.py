"""The images of a question, stored once for all answers to it in verl's queue of samples.

verl stores the pixels with every answer: 8 answers about 840 x 840 pixels take 136 MB. Here an answer holds the
question's name instead, and the training worker fetches the pixels once a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

PARTITION = "images"  # of the queue, beside verl's "train" and "val"
_FIELD, _OF = "multi_modal_inputs", "images_of_question"


async def store(question: str, images: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Store what the image processor returned for a question; returns what its answers hold instead."""
    if not images:
        return {}
    await tq.async_kv_put(key=question, partition_id=PARTITION, fields=dict(images), tag={"status": "success"})
    return {_OF: question}


def fetch(data: TensorDict) -> TensorDict:
    """A mini-batch with the images that its rows name; rows of one question share tensors. Others stay as they are."""
    rows = [tu.unwrap_non_tensor_data(row) or {} for row in data.get(_FIELD, [])]
    questions = list(dict.fromkeys(row[_OF] for row in rows if _OF in row))
    if not questions:
        return data
    found = tq.kv_batch_get(keys=questions, partition_id=PARTITION)
    columns = {name: values.unbind() for name, values in found.items() if isinstance(values, torch.Tensor)}
    images = {
        question: {name: column[place] for name, column in columns.items()} for place, question in enumerate(questions)
    }
    data = data.copy()
    tu.assign_non_tensor_stack(data, _FIELD, [images[row[_OF]] if _OF in row else row for row in rows])
    return data


def clear() -> None:
    """Forget all stored images; call it when no step is under way."""
    stored = tq.kv_list(partition_id=PARTITION) or {}
    questions = list(stored.get(PARTITION, {}))
    if questions:
        tq.kv_clear(keys=questions, partition_id=PARTITION)
