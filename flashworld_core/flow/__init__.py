"""What every flow-matching generator shares: the noise schedule and the steps along it.

Conventions: x_sigma = sigma * noise + (1 - sigma) * x0 with sigma falling from 1 (pure noise) to 0 (data); a network
predicts the velocity d x / d sigma = noise - x0; the timestep a network is told is 1000 * sigma for a 1000-entry table.
"""
