"""Answers as objects: what they hold, how they look, and the files of other tools that they become."""
