"""FlashWorld: one picture or one sentence, plus a camera path, to 3D Gaussians in four denoising steps.

Its own habits (OpenGL axes, scene normalization, 11-number camera vectors) stay inside this package.
"""
