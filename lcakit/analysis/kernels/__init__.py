"""Array kernels of the studies: NumPy on integer axes, block by block; no labels."""
