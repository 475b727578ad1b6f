"""Builds the set of multi-turn, multi-task dialogues: pictures with boxes -> checked dialogues.

Every answer of a writer goes into a journal as soon as it is there, with the reasons of what was
rejected, so that a run that was stopped goes on where it was and pays for nothing twice. At the end
near-duplicates are dropped and the rest is split by picture.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from unifiedmllm_ros.cancellation import check
from unifiedmllm_ros.data.conversation import Conversation, Turn, write_conversations
from unifiedmllm_ros.data.converters.report import Report
from unifiedmllm_ros.data.dialogue_checks import fault
from unifiedmllm_ros.data.grounding import GroundedImage
from unifiedmllm_ros.data.near_duplicates import Seen, difference_hash, groups
from unifiedmllm_ros.data.writer import Exchange, Writer
from unifiedmllm_ros.errors import ConfigError, ImageError, ModelError, UnifiedMLLMError

SPLITS = ('train', 'val', 'test')
FAILURES = 20
"""So many failed requests in a row end a run."""


class BuildError(UnifiedMLLMError):
    """A build that cannot go on; what was written so far is kept."""

    code = 'dialogues'


@dataclass(frozen=True)
class Prices:
    """What a million tokens cost, in any one currency; `budget` ends the run (None: no limit)."""

    read: float = 0.0
    wrote: float = 0.0
    budget: float | None = None

    def of(self, read: int, wrote: int) -> float:
        """The cost of so many tokens."""
        return (read * self.read + wrote * self.wrote) / 1e6


@dataclass(frozen=True)
class Request:
    """What to build: `each` dialogues about every picture, of `turns` (fewest, most) questions.

    folder: where the files go; pictures are named from `root`, which lies in it or is it.
    shares: of the pictures, for val and test.
    """

    folder: Path
    root: Path
    each: int = 2
    turns: tuple[int, int] = (3, 5)
    seed: int = 0
    shares: tuple[float, float] = (0.02, 0.02)
    name: str = 'dialogues'

    def file(self, what: str) -> Path:
        """A file of the set: train, val, test, journal, or the request and its report."""
        return self.folder / f'{self.name}.{what}'


@dataclass(frozen=True)
class Job:
    """One dialogue to be written."""

    key: str
    image: GroundedImage
    number: int
    split: str


@dataclass
class Entry:
    """What became of a job: a line of the journal."""

    key: str
    exchanges: tuple[Exchange, ...] = ()
    reasons: tuple[str, ...] = ()
    read: int = 0
    wrote: int = 0


@dataclass
class Progress:
    """Told after every dialogue."""

    jobs: int
    done: int = 0
    good: int = 0
    read: int = 0
    wrote: int = 0
    cost: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)


OnProgress = Callable[[Progress], None]


def build(
    request: Request,
    images: Sequence[GroundedImage],
    writer: Writer,
    prices: Prices | None = None,
    on_progress: OnProgress | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Write what is missing, then the three splits; returns what became of every dialogue.

    Raises ConfigError where the folder holds another request, BuildError where a server keeps
    failing or the budget is spent, Cancelled after `stop`; each leaves the journal to go on from.
    """
    _check_same(request, writer)
    report = Report(request.name)
    images = _once(images, request, report)
    split_of = splits(request, images, report)
    jobs = [
        Job(f'{image.image}#{number}', image, number, split_of[image.image])
        for image in images
        if image.image in split_of
        for number in range(request.each)
    ]
    entries = _read_journal(request.file('journal.jsonl'))
    run = _Run(request, writer, prices or Prices(), on_progress, stop or threading.Event())
    run.finish(jobs, entries)
    return _publish(request, writer, jobs, entries, report)


def _once(images: Sequence[GroundedImage], request: Request, report: Report) -> list[GroundedImage]:
    found: dict[str, GroundedImage] = {}
    for image in images:
        if image.image in found:
            report.rows += request.each
            report.drop('picture is listed twice', image.image)
        found.setdefault(image.image, image)
    return list(found.values())


def splits(request: Request, images: Sequence[GroundedImage], report: Report) -> dict[str, str]:
    """The split of each picture that can be read; near-duplicates go together.

    Rendered test scenes stay what they are, whatever the shares.
    """
    readable: dict[str, int] = {}
    for image in images:
        try:
            readable.setdefault(image.image, difference_hash(request.root / image.image))
        except ImageError as error:
            report.rows += request.each
            report.drop('picture cannot be read', str(error))
    names = list(readable)
    leaders = groups([readable[name] for name in names])
    chosen = {
        name: _split(f'{request.seed}/{names[leader]}', request.shares)
        for name, leader in zip(names, leaders, strict=True)
    }
    held_out = {i.image for i in images if i.scene is not None and i.scene.split == 'test'}
    return {name: 'test' if name in held_out else split for name, split in chosen.items()}


def _split(key: str, shares: tuple[float, float]) -> str:
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], 'big') / 2**64
    if place < shares[0]:
        return 'val'
    return 'test' if place < sum(shares) else 'train'


class _Run:
    """Works off the jobs and keeps the journal."""

    def __init__(
        self,
        request: Request,
        writer: Writer,
        prices: Prices,
        on_progress: OnProgress | None,
        stop: threading.Event,
    ) -> None:
        self.request, self.writer, self.prices = request, writer, prices
        self.on_progress, self.stop = on_progress, stop

    def finish(self, jobs: Sequence[Job], entries: dict[str, Entry]) -> None:
        """Add what is missing to `entries`, and to the journal."""
        progress = Progress(len(jobs))
        for entry in entries.values():
            self._tell(progress, entry)
        missing = (job for job in jobs if job.key not in entries)
        with open(self.request.file('journal.jsonl'), 'a', encoding='utf-8') as lines:
            for entry in self._written(missing, progress):
                lines.write(json.dumps(asdict(entry), ensure_ascii=False) + '\n')
                lines.flush()
                entries[entry.key] = entry
                self._tell(progress, entry)

    def _written(self, missing: Iterator[Job], progress: Progress) -> Iterator[Entry]:
        """Entries as they come; at most two dialogues a thread are under way."""
        failed = 0
        with ThreadPoolExecutor(self.writer.threads) as pool:
            running: set[Future[Entry]] = set()
            try:
                while True:
                    check(self.stop.is_set, 'the dialogues')
                    self._check_budget(progress)
                    room = 2 * self.writer.threads - len(running)
                    running |= {pool.submit(self._one, job) for job in islice(missing, room)}
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        entry, failed = self._outcome(future, failed)
                        if entry is not None:
                            yield entry
            except BaseException:
                self.stop.set()
                raise

    def _outcome(self, future: Future[Entry], failed: int) -> tuple[Entry | None, int]:
        try:
            return future.result(), 0
        except ModelError as error:
            # A server's failure is no answer: the next run asks again.
            status = getattr(error, 'status', None)
            if status in (400, 401, 403, 404) or failed + 1 >= FAILURES:
                raise BuildError(
                    f'{error}; what was written is kept: run the same command again to go on'
                ) from error
            return None, failed + 1

    def _one(self, job: Job) -> Entry:
        entry = Entry(job.key)
        for attempt in range(self.writer.attempts):
            rng = Random(f'{self.request.seed}/{job.key}/{attempt}')
            turns = rng.randint(*self.request.turns)
            written = self.writer.write(job.image, rng, turns, job.split, self.stop.is_set)
            entry.read += written.read
            entry.wrote += written.wrote
            reason = written.reason or fault(job.image, written.exchanges)
            if not reason:
                entry.exchanges = written.exchanges
                break
            entry.reasons = (*entry.reasons, reason)
        return entry

    def _check_budget(self, progress: Progress) -> None:
        budget = self.prices.budget
        if budget is not None and progress.cost >= budget:
            raise BuildError(
                f'the budget of {budget:g} is spent ({progress.cost:.2f}) after {progress.done} of '
                f'{progress.jobs} dialogues: run again with a higher --budget to go on'
            )

    def _tell(self, progress: Progress, entry: Entry) -> None:
        progress.done += 1
        progress.good += bool(entry.exchanges)
        progress.read += entry.read
        progress.wrote += entry.wrote
        progress.cost = self.prices.of(progress.read, progress.wrote)
        progress.reasons.update(entry.reasons)
        if self.on_progress is not None:
            self.on_progress(progress)


def _publish(
    request: Request,
    writer: Writer,
    jobs: Sequence[Job],
    entries: dict[str, Entry],
    report: Report,
) -> Report:
    seen = Seen()
    kept: dict[str, list[Conversation]] = {split: [] for split in SPLITS}
    for job in jobs:
        entry = entries.get(job.key)
        if entry is None:
            report.rows += 1
            report.drop('no answer of the server', job.key)
            continue
        report.rows += 1
        for reason in entry.reasons:
            # A rejected attempt that a later one made good costs, but loses nothing.
            (report.note if entry.exchanges else report.drop)(reason, job.key)
        if not entry.exchanges:
            continue
        text = ' '.join(side for pair in entry.exchanges for side in pair)
        if not seen.add(text, job.image.image if '<box>' in text else None):
            report.drop('near-duplicate', job.key)
            continue
        kept[job.split].append(_conversation(request, writer, job, entry))
    for split, conversations in kept.items():
        report.conversations += write_conversations(request.file(f'{split}.jsonl'), conversations)
    return report


def _conversation(request: Request, writer: Writer, job: Job, entry: Entry) -> Conversation:
    prefix = request.root.resolve().relative_to(request.folder.resolve())
    turns: list[Turn] = []
    for question, answer in entry.exchanges:
        turns += [Turn(role='user', text=question), Turn(role='assistant', text=answer)]
    return Conversation(
        id=f'{request.name}-{job.key}',
        kind='dialogues',
        image=(prefix / job.image.image).as_posix(),
        turns=tuple(turns),
        targets={'writer': writer.name, 'split': job.split},
    )


def _check_same(request: Request, writer: Writer) -> None:
    """Going on in a folder needs the request that began it."""
    try:
        request.root.resolve().relative_to(request.folder.resolve())
    except ValueError as error:
        raise ConfigError(
            f'{request.folder} must be {request.root} or a folder above it: pictures are named '
            'from there'
        ) from error
    asked: dict[str, Any] = {
        'writer': writer.name,
        'each': request.each,
        'turns': list(request.turns),
        'seed': request.seed,
        'shares': list(request.shares),
    }
    path = request.file('request.json')
    request.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(json.dumps(asked, indent=1) + '\n', encoding='utf-8')
        return
    begun = json.loads(path.read_text(encoding='utf-8'))
    for name, value in asked.items():
        if begun.get(name) != value:
            raise ConfigError(
                f'{path} was begun with {name} {begun.get(name)!r}, not {value!r}: give the same '
                'again, or another --name'
            )


def _read_journal(path: Path) -> dict[str, Entry]:
    """Entries by key; a line that a crash cut short is removed."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b'\n') + 1]
    if len(whole) != len(content):
        path.write_bytes(whole)
    entries: dict[str, Entry] = {}
    for number, line in enumerate(whole.decode('utf-8').split('\n')[:-1], start=1):
        try:
            value = json.loads(line)
            pairs = tuple((str(a), str(b)) for a, b in value.pop('exchanges'))
            entry = Entry(exchanges=pairs, reasons=tuple(value.pop('reasons')), **value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuildError(
                f'{path}, line {number}: is no entry of a journal ({error}): remove the line'
            ) from error
        entries[entry.key] = entry
    return entries
