"""What the user gave, read into ``ModelInputs``; and inputs that are found where none were given."""
