"""Search with keras-tuner: the space, the candidates, and the conductor of one search."""
