"""Reading the unified representation: any string, whole or in pieces, in linear time.

What is well formed becomes parts of the response; what is not becomes a problem with its kind and
position, and as much of it as still means something is kept:

- an unclosed call is not a call (half an instruction must not be carried out); its argument
  becomes prose and its regions plain detections;
- a phrase without a valid box becomes prose, a box without a phrase a region with an empty phrase;
- an unknown tag is dropped, what stands inside it stays;
- a bad box is dropped, the good ones beside it stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from unifiedmllm_ros.escaping import unescape
from unifiedmllm_ros.response import Box, Part, Region, Response, TaskCall
from unifiedmllm_ros.tasks import TASKS, Argument, TaskSpec

_TAG = re.compile(r'<(/?)([A-Za-z][A-Za-z0-9_]{0,31})>')
_UNFINISHED = re.compile(r'<(?:/?(?:[A-Za-z][A-Za-z0-9_]{0,31})?)?|&(?:a|am|amp|l|lt|g|gt)?')
_LONGEST_UNFINISHED = 34  # '</' and a name of 32 characters
_NUMBER = r'([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))'
_BOX = re.compile(r'\s*\[\s*' + r'\s*,\s*'.join([_NUMBER] * 4) + r'\s*\]')
_BOX_LIKE = re.compile(r'[\s0-9.,\[\]+-]*')
_EXCERPT = 80


class ProblemKind(Enum):
    """What can be wrong with a string that should be a response."""

    UNCLOSED_TAG = 'unclosed_tag'
    UNEXPECTED_TAG = 'unexpected_tag'
    UNKNOWN_TASK = 'unknown_task'
    MALFORMED_BOX = 'malformed_box'
    OUT_OF_RANGE = 'out_of_range'
    DEGENERATE_BOX = 'degenerate_box'
    ORPHAN_BOX = 'orphan_box'
    MISSING_BOX = 'missing_box'
    MISPLACED_TEXT = 'misplaced_text'
    MISSING_ARGUMENT = 'missing_argument'
    MISSING_REGION = 'missing_region'
    UNEXPECTED_REGION = 'unexpected_region'


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    position: index of its first character in the whole string.
    text: the piece it is about, at most 80 characters.
    """

    kind: ProblemKind
    position: int
    text: str
    message: str


@dataclass
class _OpenBox:
    position: int
    content: list[str] = field(default_factory=list)


@dataclass
class _OpenGround:
    position: int
    phrase_open: bool
    phrase: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    gap: list[str] = field(default_factory=list)
    gap_position: int = 0
    bad_box: bool = False


@dataclass
class _OpenCall:
    position: int
    spec: TaskSpec
    items: list[Part] = field(default_factory=list)
    after_region: bool = False


def parse(text: str, tasks: Mapping[str, TaskSpec] = TASKS) -> tuple[Response, tuple[Problem, ...]]:
    """Read a response; never raises for any string.

    Returns the response and the problems in the order of their positions.
    """
    parser = IncrementalParser(tasks)
    parser.feed(text)
    return parser.close()


class IncrementalParser:
    """Reads a response that arrives in pieces; the pieces may be cut anywhere.

    The outcome of `close()` is that of `parse()` on the joined pieces.
    """

    def __init__(self, tasks: Mapping[str, TaskSpec] = TASKS) -> None:
        self._tasks = tasks
        self._pending = ''
        self._position = 0
        self._confidence: float | None = None
        self._parts: list[Part] = []
        self._fresh: list[Part] = []
        self._problems: list[Problem] = []
        self._box: _OpenBox | None = None
        self._ground: _OpenGround | None = None
        self._call: _OpenCall | None = None
        self._stray: list[str] = []
        self._stray_position = 0
        self._unknown: Counter[str] = Counter()

    def feed(self, chunk: str, confidence: float | None = None) -> tuple[Part, ...]:
        """Take the next piece; return the parts that it completed, prose as far as it is certain.

        `confidence` in [0, 1] is given to every box that this piece closes.
        """
        self._confidence = confidence
        text = self._pending + chunk
        held = _unfinished(text)
        self._pending = text[len(text) - held :]
        self._scan(text[: len(text) - held])
        fresh, self._fresh = self._fresh, []
        return Response(tuple(fresh)).parts

    def close(self) -> tuple[Response, tuple[Problem, ...]]:
        """End the string; return the whole response and all problems by position."""
        rest, self._pending = self._pending, ''
        self._scan(rest)
        self._break_box()
        self._end_ground()
        self._end_stray()
        self._dissolve_call()
        problems = sorted(self._problems, key=lambda problem: problem.position)
        return Response(tuple(self._parts)), tuple(problems)

    def _scan(self, text: str) -> None:
        start = 0
        for match in _TAG.finditer(text):
            self._take_text(text[start : match.start()], self._position + start)
            self._take_tag(match[2], bool(match[1]), match[0], self._position + match.start())
            start = match.end()
        self._take_text(text[start:], self._position + start)
        self._position += len(text)

    def _take_text(self, raw: str, position: int) -> None:
        if not raw:
            return
        if self._box:
            self._box.content.append(raw)
            return
        text, ground = unescape(raw), self._ground
        if ground and ground.phrase_open:
            ground.phrase.append(text)
        elif ground and text.isspace():
            ground.gap_position = ground.gap_position or position
            ground.gap.append(text)
        else:
            self._end_ground()
            self._put_text(text, position)

    def _take_tag(self, name: str, closing: bool, raw: str, position: int) -> None:
        self._end_stray()
        known = name in ('p', 'box') or name in self._tasks
        if self._box:
            if name == 'box' and closing:
                self._close_box()
                return
            if not known:
                self._box.content.append(raw)
                return
            self._break_box()
        if not known:
            self._take_unknown(name, closing, raw, position)
        elif not closing:
            self._open(name, position)
        elif not self._close(name):
            self._report(
                ProblemKind.UNEXPECTED_TAG, position, raw, f'{raw} closes nothing that is open'
            )

    def _take_unknown(self, name: str, closing: bool, raw: str, position: int) -> None:
        if not closing:
            self._unknown[name] += 1
            message = f'{raw} is no known task: one of {", ".join(self._tasks)}'
            self._report(ProblemKind.UNKNOWN_TASK, position, raw, message)
        elif self._unknown[name]:
            self._unknown[name] -= 1
        else:
            message = f'{raw} closes nothing that is open'
            self._report(ProblemKind.UNEXPECTED_TAG, position, raw, message)

    def _open(self, name: str, position: int) -> None:
        if name == 'box':
            self._open_box(position)
            return
        self._end_ground()
        if name == 'p':
            self._ground = _OpenGround(position, phrase_open=True)
            return
        self._end_stray()
        self._dissolve_call()
        self._call = _OpenCall(position, self._tasks[name])

    def _close(self, name: str) -> bool:
        """Close what `name` opened; False where it opened nothing."""
        if name == 'p' and self._ground and self._ground.phrase_open:
            self._ground.phrase_open = False
            return True
        if self._call and self._call.spec.name == name:
            self._end_ground()
            self._end_stray()
            self._close_call(self._call)
            return True
        return False

    def _open_box(self, position: int) -> None:
        ground = self._ground
        if ground is None:
            message = 'a box needs a phrase before it: <p>phrase</p>'
            self._report(ProblemKind.ORPHAN_BOX, position, '<box>', message)
            ground = self._ground = _OpenGround(position, phrase_open=False)
        elif ground.phrase_open:
            self._report_unclosed('p', ground.position)
            ground.phrase_open = False
        ground.gap.clear()
        ground.gap_position = 0
        self._box = _OpenBox(position)

    def _close_box(self) -> None:
        assert self._box is not None
        box, self._box = self._box, None
        content = ''.join(box.content)
        match = _BOX.match(content)
        if match and not content[match.end() :].strip():
            self._add_box(match, box.position)
        else:
            self._bad_box(
                ProblemKind.MALFORMED_BOX,
                box.position,
                f'<box>{content}</box>',
                'a box is <box>[x1, y1, x2, y2]</box>',
            )

    def _break_box(self) -> None:
        """End a box that no </box> ended; keep it where its coordinates are complete."""
        if self._box is None:
            return
        box, self._box = self._box, None
        content = ''.join(box.content)
        self._report_unclosed('box', box.position)
        match = _BOX.match(content)
        if match:
            self._add_box(match, box.position)
        elif self._ground:
            self._ground.bad_box = True
        end = match.end() if match else len(_BOX_LIKE.match(content)[0])  # type: ignore[index]
        self._take_text(content[end:], box.position + len('<box>') + end)

    def _add_box(self, match: re.Match[str], position: int) -> None:
        x1, y1, x2, y2 = (round(float(number), 3) for number in match.groups())
        text = f'<box>{match[0]}'
        if not all(0.0 <= value <= 1.0 for value in (x1, y1, x2, y2)):
            message = 'coordinates are fractions of the image in [0, 1]'
            self._bad_box(ProblemKind.OUT_OF_RANGE, position, text, message)
        elif x1 >= x2 or y1 >= y2:
            message = 'a box needs x1 < x2 and y1 < y2'
            self._bad_box(ProblemKind.DEGENERATE_BOX, position, text, message)
        elif self._ground:
            self._ground.boxes.append(Box(x1, y1, x2, y2, self._confidence))

    def _bad_box(self, kind: ProblemKind, position: int, text: str, message: str) -> None:
        if self._ground:
            self._ground.bad_box = True
        self._report(kind, position, text, message)

    def _end_ground(self) -> None:
        if self._ground is None:
            return
        self._end_stray()
        ground, self._ground = self._ground, None
        phrase = ''.join(ground.phrase)
        if ground.phrase_open:
            self._report_unclosed('p', ground.position)
        if ground.boxes:
            self._put(Region(phrase, tuple(ground.boxes)))
        else:
            if not ground.phrase_open and not ground.bad_box:
                message = 'a phrase needs one or more boxes after it'
                self._report(ProblemKind.MISSING_BOX, ground.position, f'<p>{phrase}</p>', message)
            self._put(phrase)
        if ground.gap:
            self._put_text(''.join(ground.gap), ground.gap_position)

    def _put(self, part: Part) -> None:
        if self._call is None:
            self._parts.append(part)
            self._fresh.append(part)
            return
        self._call.items.append(part)
        if isinstance(part, Region):
            self._call.after_region = True

    def _put_text(self, text: str, position: int) -> None:
        if self._call and self._call.after_region:
            if not self._stray:
                self._stray_position = position
            self._stray.append(text)
        else:
            self._put(text)

    def _end_stray(self) -> None:
        """End a run of text that stands after a region inside a call."""
        if not self._stray:
            return
        text, self._stray = ''.join(self._stray), []
        if text.strip():
            message = 'inside a call text stands before the regions'
            self._report(ProblemKind.MISPLACED_TEXT, self._stray_position, text, message)
        self._put(text)

    def _close_call(self, call: _OpenCall) -> None:
        self._call = None
        regions = tuple(item for item in call.items if isinstance(item, Region))
        argument = _argument(call.items)
        self._check_call(call, argument, len(regions))
        self._put(TaskCall(call.spec.name, argument, regions))

    def _check_call(self, call: _OpenCall, argument: str, regions: int) -> None:
        fewest, most = call.spec.regions
        tag = f'<{call.spec.name}>'
        if call.spec.argument is Argument.REQUIRED and not argument.strip():
            self._report(
                ProblemKind.MISSING_ARGUMENT, call.position, tag, f'{tag} needs an argument'
            )
        if regions < fewest:
            message = f'{tag} needs {fewest} or more regions and has {regions}'
            self._report(ProblemKind.MISSING_REGION, call.position, tag, message)
        elif most is not None and regions > most:
            message = f'{tag} takes at most {most} regions and has {regions}'
            self._report(ProblemKind.UNEXPECTED_REGION, call.position, tag, message)

    def _dissolve_call(self) -> None:
        if self._call is None:
            return
        call, self._call = self._call, None
        self._report_unclosed(call.spec.name, call.position)
        for item in call.items:
            self._put(item)

    def _report_unclosed(self, name: str, position: int) -> None:
        message = f'<{name}> is not closed by </{name}>'
        self._report(ProblemKind.UNCLOSED_TAG, position, f'<{name}>', message)

    def _report(self, kind: ProblemKind, position: int, text: str, message: str) -> None:
        self._problems.append(Problem(kind, position, text[:_EXCERPT], message))


def _unfinished(text: str) -> int:
    """Return how many characters at the end may be the beginning of a tag or an entity."""
    tail = text[-_LONGEST_UNFINISHED:]
    start = max(tail.rfind('<'), tail.rfind('&'))
    if start < 0 or not _UNFINISHED.fullmatch(tail, start):
        return 0
    return len(tail) - start


def _argument(items: list[Part]) -> str:
    """Join the text of a call; blanks between its regions are layout, not argument."""
    texts: list[str] = []
    after_region = False
    for item in items:
        if isinstance(item, Region):
            after_region = True
        elif isinstance(item, str) and (not after_region or item.strip()):
            texts.append(item)
    return ''.join(texts)
