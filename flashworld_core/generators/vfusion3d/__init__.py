"""VFusion3D: one image of an object to a triplane field (arXiv 2403.12034). Written from its published facts."""
