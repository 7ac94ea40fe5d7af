"""The former module of counted columns. Old pickles that name it get a clear error."""

from __future__ import annotations

from typing import NoReturn

from skbellman.packing import refuse_gone


def __getattr__(name: str) -> NoReturn:
    refuse_gone(__name__, name, ["TalliedColumn", "_Steps"])
