"""What is probably not meant, why a forward failed, and what changed between two summaries."""
