"""SEEM (Zou et al., 2023, arXiv 2304.06718): segmentation by region, text, example or by itself.

Inference only, in plain PyTorch. Tensors carry the names of the published checkpoints, so these
load as they are. The arithmetic is that of the release (configuration `seem/*_unicl_lang_demo`).
"""
