"""Loading a policy by name and engine."""

from __future__ import annotations

from typing import Any

from seg_zero.errors import InputError, one_line


def quiet_transformers() -> None:
    """Keep transformers' loading bars and warnings out of a command's output."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_processor(model: str) -> Any:
    """The processor (tokenizer, image processor, chat template) of a folder or hub id. Raises InputError."""
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise InputError(f"policy {model}: its processor cannot be loaded ({one_line(error)})") from error
