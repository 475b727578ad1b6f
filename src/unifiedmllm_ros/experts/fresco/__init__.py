"""FRESCO (Yang et al., 2024, arXiv 2403.12962): a video is edited as its key frames, which are held
together by optical flow and by what they had in common before. The method is non-commercial.
"""
