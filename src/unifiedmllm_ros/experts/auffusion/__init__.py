"""Auffusion (Xue et al., 2024, arXiv 2401.01044): sound from text, by an image model that paints
mel spectrograms and a HiFi-GAN that reads them out. The published weights are non-commercial.
"""
