"""Camera paths: presets users know, keyframes between poses, and the files other programs keep them in."""
