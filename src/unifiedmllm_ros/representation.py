"""The unified representation: one string that holds prose, places and task calls.

    response  := (text | call | ground)*
    call      := "<" task ">" argument? ground* "</" task ">"
    ground    := "<p>" phrase "</p>" box+
    box       := "<box>[" x1 ", " y1 ", " x2 ", " y2 "]</box>"

Coordinates are fractions in [0, 1] of the width and height of the image as the camera sent it,
three decimals. In prose, arguments and phrases `&`, `<` and `>` are written as `&amp;`, `&lt;` and
`&gt;`. `parse(format(r)) == r` for every response; `parse` accepts any string and never raises.

The pieces live in `response` (data, format), `parsing`, `escaping` and `tasks`; this is the module
to import from.
"""

from __future__ import annotations

from unifiedmllm_ros.escaping import escape, unescape
from unifiedmllm_ros.parsing import IncrementalParser, Problem, ProblemKind, parse
from unifiedmllm_ros.response import (
    Box,
    Part,
    Region,
    Response,
    TaskCall,
    format,
    format_box,
    format_region,
)
from unifiedmllm_ros.tasks import (
    MARKERS,
    TASKS,
    Argument,
    TaskRegistry,
    TaskSpec,
    register_task,
)

__all__ = [
    'MARKERS',
    'TASKS',
    'Argument',
    'Box',
    'IncrementalParser',
    'Part',
    'Problem',
    'ProblemKind',
    'Region',
    'Response',
    'TaskCall',
    'TaskRegistry',
    'TaskSpec',
    'escape',
    'format',
    'format_box',
    'format_region',
    'parse',
    'register_task',
    'unescape',
]
