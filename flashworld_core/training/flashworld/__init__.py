"""What FlashWorld's two training stages do with its networks: both modes, the rollout, the teacher and the critic."""
