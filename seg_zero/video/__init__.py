"""Clips: reading them, carrying a policy's answer through them, and writing what comes out (docs/video.md)."""
