"""What is promised about speed and about finding bugs, measured side by side in one run: ``make bench``."""
