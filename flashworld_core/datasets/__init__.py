"""Data for training and evaluation, one set a file or folder."""
