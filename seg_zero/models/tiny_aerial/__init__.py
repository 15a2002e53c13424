"""Embedded encoders for the synthetic aerial world, shaped as CLIP, RemoteCLIP and DINO, and how they are made."""
