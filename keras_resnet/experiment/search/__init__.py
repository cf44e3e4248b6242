"""Search with keras-tuner: the space, the tuner, and the conductor of one search."""
