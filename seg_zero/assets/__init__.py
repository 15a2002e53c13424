"""The scene, and what is asked about it where nothing else is given."""

from pathlib import Path

EXAMPLE_IMAGE = Path(__file__).with_name("example.png")
EXAMPLE_QUESTION = "the green circle"
EXAMPLE_DIALOGUE = ("the red square", "the other square, not instance 1", "the green circle left of instance 2")
