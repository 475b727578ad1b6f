"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes says nothing on a machine that does other work at the same time.
settings.register_profile('unifiedmllm', deadline=None)
settings.load_profile('unifiedmllm')
