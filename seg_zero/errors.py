"""The one exception that commands turn into a single clear line."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from the user: the message names the thing, the value and the remedy."""
