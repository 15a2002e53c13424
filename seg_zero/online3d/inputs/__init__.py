"""What comes into a scan: sequences of frames, their masks, and vectors of these."""
