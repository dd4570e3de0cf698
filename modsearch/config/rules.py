"""Rules that several models share."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from modsearch.errors import shown

OWN = {"own": True}
"""Context of validation for what a study holds from earlier: it means what it meant then, also
where it would be refused by now."""


def once(values: list[Any], info: ValidationInfo) -> list[Any]:
    """A list whose values differ.

    Raises:
        ValueError: one stands there twice.
    """
    for place, value in enumerate(values):
        if value in values[:place] and info.context != OWN:
            raise ValueError(f"{shown(value)} stands there twice")
    return values


def short_name(text: str) -> str:
    """A name that is the name of a file, too.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", text):
        raise ValueError(
            f"must be up to 100 letters, digits and . _ -, the first no . or -, "
            f"but got {shown(text)}"
        )
    return text


ShortName = Annotated[str, AfterValidator(short_name)]
"""A name that is the name of a file, too."""
