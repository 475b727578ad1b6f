"""The held-out wordings are held out: disjoint, made of known words, and never drawn to train."""

from __future__ import annotations

import re
from random import Random

import pytest

from unifiedmllm_ros.tabletop.followup_phrasings import FOLLOW_UPS
from unifiedmllm_ros.tabletop.lexicon import default_lexicon
from unifiedmllm_ros.tabletop.phrasings import REQUESTS, Bank
from unifiedmllm_ros.tabletop.phrasings import banks as looking_banks
from unifiedmllm_ros.tabletop.questions import questions
from unifiedmllm_ros.tabletop.symbolic import sample_scene
from unifiedmllm_ros.tabletop.task_phrasings import PLACES, TASK_REQUESTS

ALL_REQUESTS = {**REQUESTS, **TASK_REQUESTS}
TALK = ('hello', 'bye', 'thanks', 'praise', 'fine', 'who', 'skills', 'refuse', 'unknown')

SLOTS = {'x', 'xs', 'n', 'ns', 'a', 'y', 'b', 'c', 'rel', 'colour', 'some', 'use', 'new', 'e', 'p'}


def banks() -> dict[str, Bank]:
    return {
        **looking_banks(),
        **TASK_REQUESTS,
        **FOLLOW_UPS,
        **{f'place {k}': b for k, b in PLACES.items()},
    }


MAIN_REQUESTS = ('one_ground', 'one_seg', 'all_ground', 'all_seg', 'count', 'exists')


def _plain(template: str) -> str:
    return re.sub(r'[^a-z0-9{} ]', '', template.lower())


def _words(templates: tuple[str, ...]) -> set[str]:
    return {w for t in templates for w in re.findall(r"[a-z0-9']+", re.sub(r'\{.*?\}', '', t))}


@pytest.mark.parametrize('bank', banks().values(), ids=banks().keys())
def test_held_out_templates_are_disjoint(bank: Bank) -> None:
    assert not {_plain(t) for t in bank.train} & {_plain(t) for t in bank.test}
    assert len(set(bank.train)) == len(bank.train)
    assert 0.1 <= len(bank.test) / len(bank.train + bank.test) <= 0.3


def test_no_request_is_held_out_here_and_trained_there() -> None:
    train = {_plain(t) for bank in ALL_REQUESTS.values() for t in bank.train}
    test = {_plain(t) for bank in ALL_REQUESTS.values() for t in bank.test}
    assert not train & test


def test_held_out_templates_use_known_words_only() -> None:
    known: set[str] = set().union(*(_words(b.train) for b in banks().values()))
    unknown: set[str] = set().union(*(_words(b.test) for b in banks().values())) - known
    assert not unknown


@pytest.mark.parametrize('request_name', MAIN_REQUESTS)
def test_there_are_many_wordings(request_name: str) -> None:
    bank = REQUESTS[request_name]
    assert len(bank.train) + len(bank.test) >= 25


@pytest.mark.parametrize('split', ['train', 'test'])
def test_questions_keep_to_the_wordings_of_their_split(split: str) -> None:
    rng, lexicon = Random(3), default_lexicon()
    allowed = {t for bank in ALL_REQUESTS.values() for t in bank.of(split)}
    drawn = {
        question.template
        for _ in range(60)
        for question in questions(sample_scene(rng, lexicon), rng, split)
    }
    assert drawn <= allowed
    assert len(drawn) > 0.5 * len(allowed)


@pytest.mark.parametrize('bank', banks().values(), ids=banks().keys())
def test_templates_are_plain_ascii_with_known_slots(bank: Bank) -> None:
    for template in bank.train + bank.test:
        slots = set(re.findall(r'\{(.*?)\}', template))
        assert template.isascii()
        assert slots <= SLOTS
