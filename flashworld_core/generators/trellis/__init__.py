"""TRELLIS: one image of an object to 3D Gaussians, by a flow over its structure and one over its voxels' latents.

Distilled versions (MDT-dist) are the same networks run in one or two steps.
"""
