"""The scene and the question that commands show when none are given."""

from pathlib import Path

EXAMPLE_IMAGE = Path(__file__).with_name("example.png")
EXAMPLE_QUESTION = "the green circle"
