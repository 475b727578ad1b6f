"""Questions about a tabletop scene with their answers in the unified representation.

`questions` draws what can be asked for of every task, words it with templates of the asked split,
and answers from ground truth. It is meant to run on the fly in training: a few milliseconds for a
scene, deterministic by `rng`. The first ten kinds (LOOKING) ask what is to be seen; the others are
the tasks that change or make something, captions, talk, and what is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.representation import Region, Response, TaskCall, format
from unifiedmllm_ros.tabletop import arranging, changing, describing, pointing, stating, talking
from unifiedmllm_ros.tabletop.asked import Arrangement, Asked, Proposer
from unifiedmllm_ros.tabletop.lexicon import Lexicon, default_lexicon
from unifiedmllm_ros.tabletop.making import maker
from unifiedmllm_ros.tabletop.phrasings import REQUESTS
from unifiedmllm_ros.tabletop.record import SceneRecord, canonical_box
from unifiedmllm_ros.tabletop.referring import View, left_to_right
from unifiedmllm_ros.tabletop.task_phrasings import TASK_REQUESTS
from unifiedmllm_ros.tabletop.wording import typed

MADE_OF_WORDS = ('edit', 'gen', 'videdit', 'vidgen', 'imgvid', 'audgen')
"""Tasks whose argument is the user's own words and nothing else."""

PROPOSERS: Mapping[str, Proposer] = {
    'name': pointing.by_name,
    'colour': pointing.by_colour,
    'relation': pointing.by_relation,
    'order': pointing.by_order,
    'superlative': pointing.by_superlative,
    'use': pointing.by_use,
    'several': pointing.several,
    'absent': pointing.absent,
    'count': stating.count,
    'yesno': stating.yes_or_no,
    'track': changing.track,
    'remove': changing.remove,
    'replace': changing.replace,
    'recolour': changing.recolour,
    'add': changing.add,
    'layout': arranging.layout,
    **{task: maker(task) for task in MADE_OF_WORDS},
    'caption': describing.caption,
    'chat': talking.chat,
    'refusal': talking.refusal,
}
KINDS: tuple[str, ...] = tuple(PROPOSERS)
LOOKING: tuple[str, ...] = KINDS[:10]
"""Kinds that ask what is to be seen: grounding, masks, numbers, yes or no, what is not there."""
EDITS = ('remove', 'replace', 'recolour', 'add', 'edit')
"""Kinds after which the picture is another one."""
SPLITS = ('train', 'test')

_WEIGHTS = {
    'name': 2.0,
    'colour': 1.5,
    'relation': 2.5,
    'order': 1.5,
    'absent': 1.5,
    'layout': 1.5,
    'chat': 0.5,
    'videdit': 0.5,
    'vidgen': 0.5,
    'imgvid': 0.5,
    'audgen': 0.5,
}
_EXACT = frozenset({*MADE_OF_WORDS, 'replace', 'recolour', 'add', 'layout', 'refuse', 'unknown'})
_BANKS = {**REQUESTS, **TASK_REQUESTS}
_SEG_SHARE = {'one': 0.5, 'what': 0.35, 'all': 0.5, 'count': 0.15, 'exists': 0.15}


class QuestionError(UnifiedMLLMError):
    """A split or kind of question that does not exist."""

    code = 'unknown_question_kind'


@dataclass(frozen=True)
class Question:
    """One question and its answer.

    `targets` are the indices of the objects that the answer boxes, left to right (of a thing to be
    added there is none); `task` is `ground`, `count`, `yesno`, `absent`, `caption`, `chat`,
    `refusal` or the task called; `needed` says that a noun alone would be ambiguous; `template` is
    the wording it was made from. `judged` says by what an answer is right, beside its tasks:

    boxes        as many boxes as wanted, each one met
    prose        the first three words (yes, how many, that there is none)
    words        every word of the prose
    argument     the argument of the call, word for word
    arrangement  the boxes of a layout, against `arrangement` and not against given boxes
    """

    kind: str
    text: str
    answer: Response
    targets: tuple[int, ...]
    task: str
    relation: str
    needed: bool
    template: str
    judged: tuple[str, ...] = ('prose',)
    arrangement: Arrangement | None = None

    @property
    def answer_text(self) -> str:
        """The answer in the unified representation, as the model writes it."""
        return format(self.answer)


def questions(
    scene: SceneRecord,
    rng: Random,
    phrasings: str = 'train',
    kinds: Sequence[str] | None = None,
    count: int = 20,
    lexicon: Lexicon | None = None,
) -> list[Question]:
    """Draw at most `count` different questions about `scene`.

    Fewer come back where the scene does not offer that many. `phrasings` is `train` or `test`;
    `kinds` restricts the kinds (KINDS). Raises QuestionError for an unknown split or kind.
    """
    chosen = _checked(phrasings, kinds)
    view = View(scene, lexicon or default_lexicon())
    weights = [_WEIGHTS.get(kind, 1.0) for kind in chosen]
    found: dict[str, Question] = {}
    for kind in rng.choices(chosen, weights, k=3 * count + 10):
        if len(found) == count:
            break
        asked = PROPOSERS[kind](view, rng, phrasings)
        if asked is not None:
            question = worded(kind, asked, rng, phrasings)
            found.setdefault(question.text.lower(), question)
    return list(found.values())


def corpus(
    rng: Random, count: int, phrasings: str = 'train', lexicon: Lexicon | None = None
) -> Iterator[str]:
    """Yield `count` lines of text, questions and answers in turn, from scenes made up; dialogues
    among them."""
    from unifiedmllm_ros.tabletop.dialogues import dialogue
    from unifiedmllm_ros.tabletop.symbolic import sample_scene

    lexicon = lexicon or default_lexicon()
    made = 0
    while made < count:
        scene = sample_scene(rng, lexicon)
        asked = questions(scene, rng, phrasings, lexicon=lexicon)
        for question in asked + dialogue(scene, rng, phrasings, lexicon=lexicon):
            for line in (f' {question.text}', f' {question.answer_text}'):
                if made < count:
                    yield line
                made += 1


def _checked(phrasings: str, kinds: Sequence[str] | None) -> tuple[str, ...]:
    if phrasings not in SPLITS:
        raise QuestionError(f'phrasings {phrasings!r} do not exist: use one of {SPLITS}')
    chosen = tuple(kinds or KINDS)
    unknown = [kind for kind in chosen if kind not in PROPOSERS]
    if unknown:
        raise QuestionError(f'kinds {unknown} do not exist: use some of {KINDS}')
    return chosen


def worded(kind: str, asked: Asked, rng: Random, phrasings: str) -> Question:
    """Put into words of the split, and answer, what a proposer gave."""
    seg = rng.random() < _SEG_SHARE.get(asked.request, 0.0)
    template = rng.choice(_BANKS[_bank_of(asked.request, seg)].of(phrasings))
    seen = left_to_right(asked.targets)
    task = asked.task or ('seg' if seg else 'ground')
    text = template.format(**asked.slots).replace(' ?', '?')
    answer = asked.answer or _answer(asked, seg)
    return Question(
        kind='absent' if task == 'absent' else kind,
        text=typed(text, rng, asked.request in _EXACT),
        answer=answer,
        targets=tuple(s.index for s in seen),
        task=task,
        relation=asked.relation,
        needed=asked.needed,
        template=template,
        judged=judged_by(answer, task),
        arrangement=asked.arrangement,
    )


def judged_by(answer: Response, task: str) -> tuple[str, ...]:
    """What decides whether an answer is right, see `Question`."""
    if task == 'layout':
        return ('argument', 'arrangement')
    if task in ('caption', 'chat', 'refusal'):
        return ('boxes',) if answer.regions else ('words',)
    if any(call.argument for call in answer.calls):
        return ('argument', 'boxes') if answer.regions else ('argument',)
    return ('boxes', 'prose') if answer.regions else ('prose',)


def _bank_of(request: str, seg: bool) -> str:
    if request in ('one', 'what', 'all'):
        return f'{request}_seg' if seg else f'{request}_ground'
    return f'{request}_seg' if seg else request


def _answer(asked: Asked, seg: bool) -> Response:
    if not asked.targets:
        return Response((asked.prose.strip(),))
    boxes = tuple(canonical_box(s.record.box) for s in left_to_right(asked.targets))
    region = Region(asked.phrase, boxes)
    part = TaskCall('seg', '', (region,)) if seg else region
    return Response((asked.prose, part))
