"""What a module says of itself: its tree, its tensors, its settings, the attributes it reads."""
