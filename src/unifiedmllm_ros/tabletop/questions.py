"""Questions about a tabletop scene with their answers in the unified representation.

`questions` draws unambiguous referring expressions of ten kinds, words them with templates of the
asked split, and answers from ground truth. It is meant to run on the fly in training: a few
milliseconds for a scene, deterministic by `rng`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.representation import Box, Region, Response, TaskCall, format
from unifiedmllm_ros.tabletop import pointing, stating
from unifiedmllm_ros.tabletop.asked import Asked, Proposer
from unifiedmllm_ros.tabletop.lexicon import Lexicon, default_lexicon
from unifiedmllm_ros.tabletop.phrasings import REQUESTS
from unifiedmllm_ros.tabletop.record import Corners, SceneRecord
from unifiedmllm_ros.tabletop.referring import View, left_to_right
from unifiedmllm_ros.tabletop.wording import typed

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
}
KINDS: tuple[str, ...] = tuple(PROPOSERS)
SPLITS = ('train', 'test')

_WEIGHTS = {'name': 2.0, 'colour': 1.5, 'relation': 2.5, 'order': 1.5, 'absent': 1.5}
_SEG_SHARE = {'one': 0.5, 'what': 0.35, 'all': 0.5, 'count': 0.15, 'exists': 0.15}


class QuestionError(UnifiedMLLMError):
    """A split or kind of question that does not exist."""

    code = 'unknown_question_kind'


@dataclass(frozen=True)
class Question:
    """One question and its answer.

    `targets` are the indices of the objects that the answer boxes, left to right; `task` is `seg`,
    `ground`, `count`, `yesno` or `absent`; `needed` says that a noun alone would be ambiguous;
    `template` is the wording it was made from.
    """

    kind: str
    text: str
    answer: Response
    targets: tuple[int, ...]
    task: str
    relation: str
    needed: bool
    template: str

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
            question = _worded(kind, asked, rng, phrasings)
            found.setdefault(question.text.lower(), question)
    return list(found.values())


def canonical_box(corners: Corners) -> Box:
    """The box of three decimals that answers hold: inside the image, at least 0.001 wide, high."""
    x1, x2 = _side(corners[0], corners[2])
    y1, y2 = _side(corners[1], corners[3])
    return Box(x1, y1, x2, y2)


def corpus(
    rng: Random, count: int, phrasings: str = 'train', lexicon: Lexicon | None = None
) -> Iterator[str]:
    """Yield `count` lines of text, questions and answers in turn, from scenes made up."""
    from unifiedmllm_ros.tabletop.symbolic import sample_scene

    lexicon = lexicon or default_lexicon()
    made = 0
    while made < count:
        scene = sample_scene(rng, lexicon)
        for question in questions(scene, rng, phrasings, lexicon=lexicon):
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


def _worded(kind: str, asked: Asked, rng: Random, phrasings: str) -> Question:
    seg = rng.random() < _SEG_SHARE.get(asked.request, 0.0)
    template = rng.choice(REQUESTS[_bank_of(asked.request, seg)].of(phrasings))
    seen = left_to_right(asked.targets)
    task = asked.task or ('seg' if seg else 'ground')
    return Question(
        kind='absent' if task == 'absent' else kind,
        text=typed(template.format(**asked.slots).replace(' ?', '?'), rng),
        answer=_answer(asked, seg),
        targets=tuple(s.index for s in seen),
        task=task,
        relation=asked.relation,
        needed=asked.needed,
        template=template,
    )


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


def _side(low: float, high: float) -> tuple[float, float]:
    a, b = sorted((min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)))
    a, b = round(a, 3), round(b, 3)
    if b - a < 0.0005:
        a, b = (a, a + 0.001) if a < 0.9995 else (a - 0.001, a)
    return round(a, 3), round(b, 3)
