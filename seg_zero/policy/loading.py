"""Loading a policy by name and engine."""

from __future__ import annotations


def quiet_transformers() -> None:
    """Keep transformers' loading bars and warnings out of a command's output."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
