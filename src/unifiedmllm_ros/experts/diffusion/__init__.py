"""Experts on pipelines of diffusers: images, edits, layouts and videos from noise."""
