"""Training: the toy world that makes data, objectives and loops. Nothing here is imported to generate a scene."""
