"""An independent PyTorch implementation of the networks, and the numbers it gave."""
