"""What the registry knows of a public set, and the loop that converts one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unifiedmllm_ros.data.conversation import Conversation
from unifiedmllm_ros.data.converters.folder import ConversionError, SetFolder
from unifiedmllm_ros.data.converters.report import Report
from unifiedmllm_ros.data.converters.rows import Rejected, Row


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    rows: yields the annotations of a split. build: makes conversations of one, or raises Rejected.
    gives: what the conversations are about. layout: what must lie in the folder.
    licence: as its authors publish it. splits: the parts it has; the first is the default.
    """

    name: str
    title: str
    gives: str
    licence: str
    source: str
    layout: str
    rows: Callable[[SetFolder], Iterator[Row]]
    build: Callable[[SetFolder, Row], Iterable[Conversation]]
    splits: tuple[str, ...] = ('train',)

    def open(self, root: Path, out: Path, split: str | None, report: Report) -> SetFolder:
        """The folder of the set. Raises ConversionError for a split or folder that is none."""
        if split is not None and split not in self.splits:
            raise ConversionError(
                f'{self.name} has no split {split!r}: one of {", ".join(self.splits)}'
            )
        if not root.is_dir():
            raise ConversionError(f'{root}: is no folder; unpack {self.title} there')
        return SetFolder(root, out, split or self.splits[0], report)

    def convert(self, folder: SetFolder) -> Iterator[Conversation]:
        """Yield the conversations of a set; rows that make none are counted in its report."""
        report = folder.report
        for row in self.rows(folder):
            report.rows += 1
            try:
                for made in self.build(folder, row):
                    report.conversations += 1
                    yield made
            except Rejected as error:
                report.drop(error.reason, row.where)
