"""Shapes as formulas of the input's, and which sizes of the input work."""
