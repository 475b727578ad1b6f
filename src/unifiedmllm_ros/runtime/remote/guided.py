"""The unified representation as a grammar for servers that constrain what they generate.

GBNF, the notation of llama.cpp (its grammars/README.md), which vLLM's backends read as well. It
leaves to the parser what it cannot say: that x1 < x2 and y1 < y2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unifiedmllm_ros.tasks import TASKS, Argument, TaskSpec

LLAMA_CPP = 'llama.cpp'
VLLM = 'vllm'
_RULES = """char ::= [^<>&] | "&lt;" | "&gt;" | "&amp;"
number ::= "0." [0-9] [0-9] [0-9] | "1.000"
box ::= "<box>[" number ", " number ", " number ", " number "]</box>"
ground ::= "<p>" char* "</p>" box+
"""


def grammar(tasks: Mapping[str, TaskSpec] = TASKS) -> str:
    """Return the grammar of a response that may call these tasks; its first rule is `root`."""
    calls = [f'{_name(spec)} ::= {_call(spec)}\n' for spec in tasks.values()]
    parts = ' | '.join(['char', 'ground', *(_name(spec) for spec in tasks.values())])
    return f'root ::= ({parts})*\n{_RULES}{"".join(calls)}'


def request_fields(server: str, tasks: Mapping[str, TaskSpec] = TASKS) -> dict[str, Any]:
    """Return what a request holds for the server to follow the grammar; {} for server ''.

    llama.cpp: `grammar`. vLLM, from 0.12 on: `structured_outputs` (features/structured_outputs of
    its documentation).
    """
    if server == LLAMA_CPP:
        return {'grammar': grammar(tasks)}
    if server == VLLM:
        return {'structured_outputs': {'grammar': grammar(tasks)}}
    return {}


def _name(spec: TaskSpec) -> str:
    # Names of rules hold no underscore.
    return f'call-{spec.name.replace("_", "-")}'


def _call(spec: TaskSpec) -> str:
    opening, closing = spec.markers
    argument = 'char+' if spec.argument is Argument.REQUIRED else 'char*'
    fewest, most = spec.regions
    regions = ['ground'] * fewest
    regions += ['ground*'] if most is None else ['ground?'] * (most - fewest)
    return ' '.join([f'"{opening}"', argument, *regions, f'"{closing}"'])
