"""Training of the model's stages; needs the `train` extra (torch, transformers)."""
