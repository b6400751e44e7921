"""Frozen facts of one summary, without tensors or display strings, and the exceptions that users see."""
