"""ROS parameters from a pydantic model, and back.

One model says for each parameter its type, default, range, description and whether it can be
changed at run time; the ROS declarations, the check of changes and the table of the documentation
are all made from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from unifiedmllm_ros.errors import ConfigError

READ_ONLY: JsonDict = {'read_only': True}
"""`json_schema_extra` of a field that cannot be changed once the node runs."""

ParametersT = TypeVar('ParametersT', bound=BaseModel)


def is_read_only(field: FieldInfo) -> bool:
    """Return whether the parameter of `field` is fixed once the node runs."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get('read_only'))


def choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the words that a `Literal` field allows; empty for another type."""
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def bounds(field: FieldInfo) -> tuple[float, float] | None:
    """Return the (least, largest) value of a number field, None without both."""
    low = [item.ge for item in field.metadata if isinstance(item, annotated_types.Ge)]
    high = [item.le for item in field.metadata if isinstance(item, annotated_types.Le)]
    if not (low and high):
        return None
    return float(str(low[0])), float(str(high[0]))


def descriptor(field: FieldInfo) -> Any:
    """Make the rcl_interfaces/ParameterDescriptor of a field."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    message = ParameterDescriptor(
        description=field.description or '', read_only=is_read_only(field)
    )
    limits = bounds(field)
    if limits is not None and field.annotation is int:
        message.integer_range = [IntegerRange(from_value=int(limits[0]), to_value=int(limits[1]))]
    elif limits is not None:
        message.floating_point_range = [
            FloatingPointRange(from_value=limits[0], to_value=limits[1])
        ]
    if words := choices(field):
        message.additional_constraints = 'one of: ' + ', '.join(words)
    return message


def declare(node: Any, model: type[ParametersT]) -> ParametersT:
    """Declare all fields of `model` as parameters of `node`; return their initial values.

    Raises:
        ConfigError: an initial value that the model refuses.
    """
    values = {}
    for name, field in sorted(model.model_fields.items()):
        values[name] = node.declare_parameter(name, field.default, descriptor(field)).value
    return changed(model(), values)


def changed(current: ParametersT, values: Mapping[str, Any]) -> ParametersT:
    """Return `current` with `values` replaced and everything checked.

    Raises:
        ConfigError: naming each parameter, its value and what is allowed.
    """
    try:
        return type(current).model_validate({**current.model_dump(), **values})
    except ValidationError as error:
        raise ConfigError(_explained(error)) from error


def own_values(model: type[BaseModel], parameters: Iterable[Any]) -> dict[str, Any]:
    """Return {name: value} of those rclpy parameters that `model` knows."""
    return {p.name: p.value for p in parameters if p.name in model.model_fields}


def parameter_table(model: type[BaseModel]) -> str:
    """Write the fields of `model` as the Markdown table of the documentation."""
    lines = [
        '| parameter | type | default | allowed | at run time | meaning |',
        '|---|---|---|---|---|---|',
    ]
    for name, field in sorted(model.model_fields.items()):
        cells = (
            f'`{name}`',
            'string' if choices(field) else _ROS_TYPES[field.annotation],
            f'`{_yaml(field.default)}`',
            _allowed(field),
            'no' if is_read_only(field) else 'yes',
            (field.description or '').replace('|', '\\|'),
        )
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


_ROS_TYPES: dict[Any, str] = {str: 'string', int: 'integer', float: 'double', bool: 'bool'}


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) else str(value)


def _allowed(field: FieldInfo) -> str:
    if words := choices(field):
        return ', '.join(f'`{word}`' for word in words)
    limits = bounds(field)
    if limits is None:
        return ''
    return f'{limits[0]:g} to {limits[1]:g}' if limits[1] < 1e6 else f'{limits[0]:g} or more'


def _explained(error: ValidationError) -> str:
    return '; '.join(
        f'parameter {item["loc"][0]} = {item["input"]!r}: {item["msg"]}' for item in error.errors()
    )
