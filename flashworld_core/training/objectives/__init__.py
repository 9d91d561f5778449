"""What is trained: losses on tensors."""
