"""Conversations about one picture: earlier answers, text and masks, re-enter the prompt (docs/dialogue.md)."""
