"""The compiled CPU rasterizer (numba), multi-threaded and differentiable."""
