"""One run a file."""
