"""What is read of a module: its tree, its tensors, its settings, the attributes it reads."""
