"""The network: dense CLIP, rotated cost maps, their refinement and upsampling (RSKT-Seg, arXiv 2509.12040)."""
