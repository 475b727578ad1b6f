"""One annotation of a public set, read field by field; what is wrong with it has a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar('Value')


class Rejected(Exception):
    """A row that makes no conversation. `reason` is counted: keep it the same for like rows."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Row:
    """One annotation: where it stands (file and number, for reports) and its fields."""

    where: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, value: object) -> Row:
        """The row of a JSON value; one that is no object has no fields, and fails as such."""
        return cls(where, value if isinstance(value, Mapping) else {})

    def text(self, name: str) -> str:
        """A field of text, stripped. Raises Rejected where it is missing or empty."""
        value = self._get(name, str).strip()
        if not value:
            raise Rejected(f'field {name} is empty')
        return sound(value)

    def key(self, name: str) -> str:
        """An identity: text or a whole number, as text."""
        value = self.fields.get(name)
        return str(value) if isinstance(value, int) else self.text(name)

    def number(self, name: str) -> float:
        """A number. Raises Rejected where it is missing or something else."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Rejected(_complaint(name, value, 'a number'))
        return float(value)

    def array(self, name: str) -> list[Any]:
        """A list. Raises Rejected where it is missing or something else."""
        return self._get(name, list)

    def _get(self, name: str, kind: type[Value]) -> Value:
        value = self.fields.get(name)
        if not isinstance(value, kind):
            raise Rejected(_complaint(name, value, {'str': 'text'}.get(kind.__name__, 'a list')))
        return value


def identity(value: object) -> str | None:
    """What things are looked up by: text or a whole number as text, None for anything else."""
    return str(value) if isinstance(value, int | str) else None


def sound(text: str) -> str:
    """The text as it is. Raises Rejected for half a surrogate pair: it cannot be written."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Rejected('text is not valid Unicode') from error
    return text


def _complaint(name: str, value: object, wanted: str) -> str:
    return f'field {name} is missing' if value is None else f'field {name} is not {wanted}'
