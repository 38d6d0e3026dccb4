"""Types of fields that several parts of a configuration share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

MAX_NAME_BYTES = 64  # names are joined in file names, which hold 255 bytes
MAX_SEED = 2**31 - 1  # a seed that every library takes, with an offset added


def _check_name_length(name: str) -> str:
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise ValueError(f"a name has at most {MAX_NAME_BYTES} bytes, since files are called after it; this has {size}")
    return name


Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$"), AfterValidator(_check_name_length)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
