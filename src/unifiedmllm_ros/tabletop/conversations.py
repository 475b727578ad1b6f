"""From questions about a scene to the conversation format that training and evaluation read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unifiedmllm_ros.data.conversation import Conversation, Turn
from unifiedmllm_ros.tabletop.questions import Question
from unifiedmllm_ros.tabletop.record import SceneRecord


def questions_to_conversation(
    scene: SceneRecord, questions: Sequence[Question], name: str = ''
) -> Conversation:
    """One conversation with a question and its answer per turn pair; `name` ends its id.

    `targets` names the scene and its mask, and for every question its kind, task and the indices
    of the objects that it asks for.
    """
    turns: list[Turn] = []
    for question in questions:
        turns.append(Turn(role='user', text=question.text))
        turns.append(Turn(role='assistant', text=question.answer_text))
    return Conversation(
        id=f'tabletop-{scene.split}-{scene.id}{name}',
        kind='tabletop',
        image=scene.image or None,
        turns=tuple(turns),
        targets={
            'scene': scene.id,
            'mask': scene.mask,
            'questions': [_target(question) for question in questions],
        },
    )


def _target(question: Question) -> dict[str, Any]:
    return {
        'kind': question.kind,
        'task': question.task,
        'objects': list(question.targets),
        'relation': question.relation,
        'needed': question.needed,
        'template': question.template,
    }
