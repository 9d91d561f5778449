"""Rasterizers that are twins: `torch_reference` is the oracle, the others are fast."""
