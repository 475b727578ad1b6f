"""Talk that needs no tool, and requests that are refused: nobody here acts, or knows the world."""

from __future__ import annotations

from random import Random

from unifiedmllm_ros.representation import Response
from unifiedmllm_ros.tabletop.asked import Asked
from unifiedmllm_ros.tabletop.referring import View
from unifiedmllm_ros.tabletop.task_words import deed, secret

REPLIES = {
    'hello': 'Hello! What can I do for you?',
    'bye': 'Goodbye!',
    'thanks': 'You are welcome.',
    'praise': 'Thank you, I am glad.',
    'fine': 'I am fine, thank you.',
    'who': 'I am UnifiedMLLM, a model that looks at pictures.',
    'skills': 'I find, count, mask and edit things, and make pictures, videos and sounds.',
}
CANNOT = 'I can not do that, I only work with pictures, videos and sounds.'
UNKNOWN = 'I do not know that, the picture does not show it.'


def chat(view: View, rng: Random, split: str) -> Asked | None:
    """A greeting, thanks, or a question about the model itself."""
    request = rng.choice(tuple(REPLIES))
    return Asked(request, {}, task='chat', answer=Response((REPLIES[request],)))


def refusal(view: View, rng: Random, split: str) -> Asked | None:
    """A deed in the world, or a fact that no picture shows."""
    acts = rng.random() < 0.6
    words = deed(rng, split) if acts else secret(rng, split)
    reply = CANNOT if acts else UNKNOWN
    request = 'refuse' if acts else 'unknown'
    return Asked(request, {'p': words}, task='refusal', answer=Response((reply,)))
