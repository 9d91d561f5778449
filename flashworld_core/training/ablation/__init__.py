"""The toy ablation: variants A to F of the method on ToyWorld, and the figures that tell them apart."""
