"""Operations on scenes, Gaussians to Gaussians, one family a file."""
