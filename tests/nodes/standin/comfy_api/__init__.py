"""A small stand-in for ComfyUI's API package, with the oldest supported host's signatures."""
