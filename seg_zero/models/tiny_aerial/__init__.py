"""Encoders for the synthetic aerial world, shaped as CLIP, RemoteCLIP and DINO: how they are made and measured."""
