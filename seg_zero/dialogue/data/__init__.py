"""Scripted dialogues with true masks: files, published formats, and dialogues made from scenes and instances."""
