"""Networks that more than one generator may use."""
