"""Training of the network: configuration, augmentation, the loop, checkpoints."""
