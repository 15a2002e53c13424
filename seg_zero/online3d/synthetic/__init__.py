"""Rooms made of boxes and spheres, and a camera that moves through them: exact depth, poses and instances."""
