"""Metrics, and the harness that applies them to a model."""
