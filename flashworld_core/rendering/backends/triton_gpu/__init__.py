"""The Triton rasterizer: NVIDIA, AMD and Intel GPUs, no CUDA toolkit and no compiler needed.

`rasterize` is the entry and holds the order of the kernels: `project` (records), `lists` and `tiles` (tile lists),
`composite` (images), `composite_gradients` and `gaussian_gradients` (backward). Nothing here is imported on a machine
without a GPU.
"""
