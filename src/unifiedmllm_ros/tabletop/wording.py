"""From a template to what a person types: determiners, openings, capitals, typing slips."""

from __future__ import annotations

from random import Random

from unifiedmllm_ros.tabletop.lexicon import article
from unifiedmllm_ros.tabletop.phrasings import CLOSINGS, OPENINGS, Bank

TYPO_SHARE = 0.05
"""Share of questions with one mistyped word."""


def draw(bank: Bank, split: str, rng: Random) -> str:
    """A noun-phrase pattern; half of those for testing are held-out ones."""
    held_out = split == 'test' and rng.random() < 0.5
    return rng.choice(bank.test if held_out else bank.train)


def definite(noun: str, rng: Random) -> str:
    """A noun phrase for one certain object: mostly "the", at times "that" or nothing."""
    dice = rng.random()
    if dice < 0.85:
        return f'the {noun}'
    return noun if dice < 0.95 else f'that {noun}'


def named(noun: str, rng: Random) -> str:
    """A noun phrase for an object named by kind, where "a mug" and "my mug" are natural as well."""
    dice = rng.random()
    if dice < 0.08:
        return article(noun)
    return f'my {noun}' if dice < 0.13 else definite(noun, rng)


def typed(text: str, rng: Random, exact: bool = False) -> str:
    """The sentence as it may be typed: plain ASCII, never longer by more than a few words.

    `exact`: words of it are to be copied, so none is mistyped or put into capitals.
    """
    text = _framed(text, rng)
    if text.endswith('?') and rng.random() < 0.4:
        text = text[:-1]
    elif not text.endswith('?') and rng.random() < 0.25:
        text += '.'
    if rng.random() < TYPO_SHARE and not exact:
        text = _mistyped(text, rng)
    dice = rng.random()
    if dice < 0.5:
        return text
    if dice > 0.985 and not exact:
        return text.upper()
    return text[0].upper() + text[1:].replace(' i ', ' I ')


def _framed(text: str, rng: Random) -> str:
    if rng.random() < 0.1:
        text = f'{rng.choice(OPENINGS)} {text}'
    if rng.random() < 0.1:
        closing = rng.choice(CLOSINGS)
        if closing in text:
            return text
        text = f'{text[:-1]} {closing}?' if text.endswith('?') else f'{text} {closing}'
    return text.replace('??', '?')


def _mistyped(text: str, rng: Random) -> str:
    words = text.split(' ')
    long = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not long:
        return text
    at = rng.choice(long)
    word, place = words[at], rng.randrange(1, len(words[at]) - 1)
    dice = rng.random()
    if dice < 0.4:
        word = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    elif dice < 0.75:
        word = word[:place] + word[place + 1 :]
    else:
        word = word[:place] + word[place] + word[place:]
    return ' '.join((*words[:at], word, *words[at + 1 :]))
