"""Conversations for training and evaluation: one format, and the sets that come in it."""
