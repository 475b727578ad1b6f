"""Running the model: engines, grammar, decoding, and the model as the perceiver sees it."""
