"""An independent PyTorch implementation of the networks, and its outputs."""
