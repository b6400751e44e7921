"""Tensors with a shape and no data, and the mode that computes shapes of them."""
