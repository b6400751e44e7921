"""What the user gave, read into ``ModelInputs``: sizes, signatures, nested values, and inputs found where none were given."""
