"""Reading a pickle of plain containers without letting it run anything.

refs(*).p of the refCOCO family is a pickle, and unpickling a file from elsewhere runs what it
says. This reader refuses every name a pickle may look up: dicts, lists, tuples, text and numbers
need none, so the published files load and a crafted one is an error.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from unifiedmllm_ros.data.converters.folder import ConversionError


class _PlainUnpickler(pickle.Unpickler):
    """Knows no class and no function; persistent ids are refused by the base class."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f'it asks for {module}.{name}')


def read_plain_pickle(path: Path) -> Any:
    """The value of a pickle that holds containers, text and numbers only (any protocol).

    Raises ConversionError for a pickle that holds anything else, or is damaged.
    """
    try:
        with open(path, 'rb') as file:
            return _PlainUnpickler(file, encoding='latin-1').load()
    except (pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError) as error:
        raise ConversionError(f'{path}: is refused: {error}') from error
    except (AttributeError, IndexError, KeyError, ImportError, MemoryError) as error:
        raise ConversionError(f'{path}: is a damaged pickle: {error}') from error
