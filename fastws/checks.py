"""Checks of settings: each raises ConfigError with one clear line that names the field. Layer 4."""

from typing import cast

from fastws.errors import ConfigError

LEAST_BUDGET = 1 << 20


def check_integer(field: str, value: object, low: int, high: int) -> None:
    """Refuse what is no integer from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(field, f"must be an integer from {low:,} to {high:,}")


def check_budget(field: str, value: object) -> None:
    """Refuse what is no budget of memory: an integer of bytes, 1 MiB up."""
    check_integer(field, value, LEAST_BUDGET, 2**62)


def check_number(field: str, value: object, low: float, high: float) -> float:
    """Return `value`; an integral float as int, so that 10.0 reads 10 on the wire."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    number = cast(float, value)
    if not good or not low <= number <= high:  # a NaN compares false
        raise ConfigError(field, f"must be a number from {low:,} to {high:,}")
    return int(number) if number == int(number) else number


def check_flag(field: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ConfigError(field, "must be true or false")


def check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(field, f"must be one of {', '.join(choices)}")


def check_text(field: str, value: object) -> None:
    """Refuse what is no text of visible ASCII without blanks."""
    if not isinstance(value, str) or not value or not all("!" <= char <= "~" for char in value):
        raise ConfigError(field, "must be visible ASCII without blanks")
