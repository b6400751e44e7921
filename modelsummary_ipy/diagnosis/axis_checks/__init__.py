"""What operations do against the meaning of axes: a file for each thing that is followed through a walk over them."""
