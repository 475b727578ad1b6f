"""What became of the rows of a set: every one is counted, with the reasons of those left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Report:
    """Counts of a conversion.

    rows: annotations read. conversations: lines made. dropped: rows (or parts of rows) that made
    none, by reason. kept: shortcomings of conversations that were made all the same, by reason.
    """

    name: str
    rows: int = 0
    conversations: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def drop(self, reason: str, where: str) -> None:
        """Count a row, or a part of it, that is left out."""
        self.dropped[reason] += 1
        self.first.setdefault(reason, where)

    def note(self, reason: str, where: str) -> None:
        """Count a shortcoming of a conversation that is kept."""
        self.kept[reason] += 1
        self.first.setdefault(reason, where)

    def __str__(self) -> str:
        """A summary, and a line for each reason with its count and first place."""
        lines = [f'{self.name}: {self.rows} rows read, {self.conversations} conversations made']
        for word, reasons in (('left out', self.dropped), ('kept', self.kept)):
            for reason, count in reasons.most_common():
                lines.append(f'  {word} {count}: {reason} (first: {self.first[reason]})')
        return '\n'.join(lines)
