"""Tensors that know their shape and nothing else, and the mode that computes shapes of them."""
