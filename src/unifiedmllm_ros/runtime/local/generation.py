"""Generation in a thread, so that its caller hears each token and can leave at any time."""

from __future__ import annotations

import copy
import math
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import Cancelled, InstructionError, ModelError, OutOfMemoryError
from unifiedmllm_ros.runtime.local.automaton import NUMBER, ByteState
from unifiedmllm_ros.runtime.local.constraint import Constraint

CLOSING_ROOM = 96
"""Most tokens that bring a constrained answer to its end."""
_TICK = 0.05


@dataclass(frozen=True)
class Written:
    """One token. `confidence`: of the box that it closes; None for all others."""

    id: int
    confidence: float | None = None


class Watch:
    """Sees every step of a generation: stops it, holds it to a grammar, refuses NaN.

    A logits processor of transformers. Decoding is greedy, so it knows the token of each step.
    confidences: of the boxes that are closed, by the number of the token that closes one.
    """

    def __init__(
        self, stopped: threading.Event, cancel: Cancel, constraint: Constraint | None, limit: int
    ) -> None:
        """Begin an answer; from `limit` tokens on it is brought to its end."""
        self.confidences: dict[int, float] = {}
        self._stopped = stopped
        self._cancel = cancel
        self._constraint = constraint
        self._limit = limit
        self._state = ByteState()
        self._count = 0
        self._box: list[float] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Look at the scores [1, V] of the next token; see transformers.LogitsProcessor."""
        import torch

        if self._stopped.is_set() or self._cancel():
            raise Cancelled('the question was cancelled by its caller')
        if bool(torch.isnan(scores).any()) or bool(torch.isposinf(scores).any()):
            raise ModelError(
                'the model gave logits that are not finite (NaN or infinite): the answer is '
                'refused; check the weights, and try dtype: bfloat16 or float32'
            )
        if self._constraint is None:
            return scores
        mask = self._constraint.allowed(self._state, closing=self._count >= self._limit)
        allowed = torch.from_numpy(mask.copy()).to(scores.device)
        held = scores.masked_fill(~allowed[: scores.shape[-1]], -torch.inf)
        self._take(self._constraint, held)
        return held

    def _take(self, constraint: Constraint, scores: Any) -> None:
        token, before = int(scores.argmax()), self._state
        if token not in constraint.ends:
            self._state = constraint.advance(before, token)
        if before.place == NUMBER:
            self._box.append(float(scores.float().softmax(-1).max()))
            if self._state.place != NUMBER:
                logs = [math.log(max(share, 1e-9)) for share in self._box]
                self.confidences[self._count] = min(1.0, math.exp(sum(logs) / len(logs)))
                self._box = []
        self._count += 1


class _Ears:
    """Puts each token into a queue; a streamer of transformers."""

    def __init__(self, heard: queue.SimpleQueue[Any], prompt: bool) -> None:
        self._heard = heard
        self._prompt = prompt

    def put(self, value: Any) -> None:
        """Take the prompt first, then token by token."""
        if self._prompt:
            self._prompt = False
            return
        for token in value.reshape(-1).tolist():
            self._heard.put(int(token))

    def end(self) -> None:
        """The thread itself tells of the end."""


def generate(
    module: Any,
    inputs: dict[str, Any],
    max_tokens: int,
    cancel: Cancel,
    constraint: Constraint | None = None,
) -> Iterator[Written]:
    """Yield the tokens of a greedy answer, control tokens included.

    Raises Cancelled within one step of a cancel, ModelError, InstructionError, OutOfMemoryError.
    Leaving the iterator ends the generation.
    """
    check(cancel, 'the question')
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stopped = threading.Event()
    watch = Watch(stopped, cancel, constraint, max_tokens)
    room = CLOSING_ROOM if constraint is not None else 0
    settings = _settings(module, max_tokens + room, constraint is not None)

    def work() -> None:
        try:
            _run(module, inputs, settings, watch, _Ears(heard, prompt=True))
            heard.put(None)
        except BaseException as error:
            heard.put(error)

    thread = threading.Thread(target=work, name='local-model', daemon=True)
    thread.start()
    count = 0
    try:
        while (item := heard.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield Written(item, watch.confidences.get(count))
            count += 1
    finally:
        stopped.set()
        thread.join()


def _run(module: Any, inputs: dict[str, Any], settings: Any, watch: Watch, ears: _Ears) -> None:
    import torch
    from transformers import LogitsProcessorList

    try:
        with torch.inference_mode():
            module.generate(
                **inputs,
                generation_config=settings,
                logits_processor=LogitsProcessorList([watch]),
                streamer=ears,
            )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(
            'the memory does not suffice for this question: lower max_pixels, quantise, or ask '
            'a smaller model'
        ) from error


def _settings(module: Any, tokens: int, constrained: bool) -> Any:
    settings = copy.deepcopy(module.generation_config)
    settings.update(
        max_new_tokens=tokens,
        max_length=None,
        min_length=0,
        min_new_tokens=None,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        use_cache=True,
        return_dict_in_generate=False,
    )
    if constrained:
        # Numbers repeat by nature.
        settings.update(repetition_penalty=1.0, no_repeat_ngram_size=0, forced_bos_token_id=None)
    return settings


def check_length(inputs: dict[str, Any], limit: int | None, max_tokens: int) -> None:
    """Raise InstructionError where prompt and answer outgrow the model's positions."""
    length = int(inputs['input_ids'].shape[1])
    if limit is not None and length + max_tokens > limit:
        raise InstructionError(
            f'picture and conversation take {length} of {limit} positions and leave no room for '
            f'{max_tokens} of the answer: lower max_pixels or max_tokens, or begin anew'
        )


def ends(module: Any, tokenizer: Any) -> Sequence[int]:
    """Return the ids that end an answer."""
    found = module.generation_config.eos_token_id
    if found is None:
        found = tokenizer.eos_token_id
    return list(found) if isinstance(found, list | tuple) else [found] if found is not None else []
