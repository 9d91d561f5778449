"""What TRELLIS is trained with: data of procedural objects, and the stages of its networks."""
