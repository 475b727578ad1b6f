"""What an instruction wants of a model that knows no instructions, only tasks and phrases.

English only, and by its opening words: language models read the instruction themselves and need
this only to know whether masks are wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_POLITE = re.compile(r'(?:please|can you|could you|would you|now|then)\s+', re.I)
_SEGMENT = re.compile(r'(?:segment|mask|outline|cut out|trace)\b\s*', re.I)
_LOCATE = re.compile(
    r'(?:find|detect|locate|ground|show(?: me)?|box|point (?:at|to|out)|look for|search for|'
    r'where (?:is|are)|where\'s|give me|pick(?: up)?|grasp|grab|track|follow)\b\s*',
    re.I,
)
_DESCRIBE = re.compile(r'(?:describe|caption|what do you see|tell me what you see)\b', re.I)
_QUESTION = re.compile(
    r'(?:what|who|which|why|how|when|is|are|do|does|did|can|could|will|has|have)\b', re.I
)
_ARTICLE = re.compile(r'(?:the|an|a|all|every|each|any|some|of|my|your)\s+', re.I)
_BETWEEN = re.compile(r'\s*[,;]\s*(?:and\s+)?|\s+and\s+', re.I)


class Wish(Enum):
    """What is to come out."""

    MASKS = 'masks'
    BOXES = 'boxes'
    CAPTION = 'caption'
    ANSWER = 'answer'


@dataclass(frozen=True)
class Intent:
    """A wish and the phrases it is about, at least one for masks and boxes."""

    wish: Wish
    phrases: tuple[str, ...] = ()

    @property
    def wants_masks(self) -> bool:
        """Whether regions are to be segmented."""
        return self.wish is Wish.MASKS


def read_intent(instruction: str) -> Intent:
    """Judge an instruction by its opening words; a bare phrase is something to locate."""
    text = instruction.strip()
    while match := _POLITE.match(text):
        text = text[match.end() :]
    for pattern, wish in ((_SEGMENT, Wish.MASKS), (_LOCATE, Wish.BOXES)):
        if match := pattern.match(text):
            return Intent(wish, _phrases(text[match.end() :], instruction))
    if _DESCRIBE.match(text):
        return Intent(Wish.CAPTION)
    if _QUESTION.match(text) or text.endswith('?'):
        return Intent(Wish.ANSWER)
    return Intent(Wish.BOXES, _phrases(text, instruction))


def _phrases(text: str, instruction: str) -> tuple[str, ...]:
    pieces = (_bare(piece) for piece in _BETWEEN.split(text.strip(' \t.!?')))
    return tuple(piece for piece in pieces if piece) or (instruction.strip(),)


def _bare(phrase: str) -> str:
    phrase = phrase.strip(' \t.!?\'"')
    while match := _ARTICLE.match(phrase):
        phrase = phrase[match.end() :]
    return phrase
