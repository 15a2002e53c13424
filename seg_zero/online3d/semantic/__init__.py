"""Every voxel of a room labelled by text."""
