"""Models that write the unified representation themselves: our own checkpoints on a server.

Coordinates are fractions of the image with three decimals, see `representation`. Any chat model
can be told to write it too; the system prompt shows how.
"""

from __future__ import annotations

from dataclasses import dataclass

from unifiedmllm_ros.model.adapters.base import Message, Size, Translation
from unifiedmllm_ros.model.protocol import Conversation
from unifiedmllm_ros.representation import TASKS, escape, parse

_SYSTEM = """You are the perception of a robot. Answer in one short sentence. Where you speak of \
things in the image, mark them: <p>red mug</p><box>[x1, y1, x2, y2]</box>, one box for each \
instance. Coordinates are fractions of the image's width and height with three decimals, such as \
<box>[0.412, 0.203, 0.587, 0.441]</box>. To do something, put it in a task's tags:
<TASK>argument<p>phrase</p><box>[...]</box></TASK>
TASK is one of:
"""


@dataclass(frozen=True)
class NativeAdapter:
    """Prompt and reading of the unified representation."""

    name: str = 'native'

    def messages(self, conversation: Conversation, image: Size) -> tuple[Message, ...]:
        """System prompt with the tasks, the turns before, the question (escaped); see Adapter."""
        tasks = '\n'.join(f'{spec.name}: {spec.description}' for spec in TASKS.values())
        messages = [Message('system', _SYSTEM + tasks)]
        for turn in conversation.history:
            messages.append(Message('user', escape(turn.question), image=len(messages) == 1))
            messages.append(Message('assistant', turn.answer))
        messages.append(Message('user', escape(conversation.question), image=len(messages) == 1))
        return tuple(messages)

    def parse(
        self, text: str, image: Size, resized: Size | None = None, *, question: str = ''
    ) -> Translation:
        """Read the representation; its own parser reports problems to whoever reads the text."""
        return Translation(parse(text)[0])
