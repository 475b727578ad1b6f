"""An answer, or why there is none, as a Response message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unifiedmllm_ros import msg
from unifiedmllm_ros.bridge.error_codes import error_code, error_message
from unifiedmllm_ros.bridge.task_call import region_message, task_call_message
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.representation import Problem, Response


def response_message(
    header: Any,
    instruction: str,
    response: Response,
    raw: str,
    problems: Iterable[Problem] = (),
    stages: Mapping[str, float] | None = None,
    model: str = '',
    backend: str = '',
) -> msg.Response:
    """Make the message of an answer.

    Args:
        header: std_msgs/Header of the image.
        instruction: the question, as understood.
        response: the answer.
        raw: the answer's text in the unified representation.
        problems: flaws found in `raw`.
        stages: milliseconds by name of the stage.
        model: name of the model.
        backend: what runs it.
    """
    return msg.Response(
        header=header,
        instruction=instruction,
        text=response.text.strip(),
        raw=raw,
        regions=[region_message(region) for region in response.regions],
        calls=[task_call_message(call) for call in response.calls],
        problems=[_problem(problem) for problem in problems],
        stages=stage_messages(stages or {}),
        model=model,
        backend=backend,
    )


def error_response(header: Any, instruction: str, error: BaseException) -> msg.Response:
    """Make the message that says why a question has no answer."""
    return msg.Response(
        header=header,
        instruction=encodable(instruction),
        error_code=error_code(error),
        error_msg=encodable(error_message(error)),
    )


def stage_messages(stages: Mapping[str, float]) -> list[msg.StageTime]:
    """Make the StageTime messages of {stage: milliseconds}, in order."""
    return [msg.StageTime(stage=name, milliseconds=float(ms)) for name, ms in stages.items()]


def _problem(problem: Problem) -> msg.Problem:
    return msg.Problem(
        kind=problem.kind.value,
        position=problem.position,
        text=problem.text,
        message=problem.message,
    )
