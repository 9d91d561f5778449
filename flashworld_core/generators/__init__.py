"""Generators: models that make scenes. `base` names what they have in common; each has a folder of its own."""
