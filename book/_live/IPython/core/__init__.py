"""Classes where IPython has them."""
