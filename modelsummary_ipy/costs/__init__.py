"""What a trace costs: multiply-adds and bytes, per row and in all."""
