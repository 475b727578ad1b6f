"""Other people's models on this machine, run by transformers."""
