"""What the program ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the program ends with."""

    OK = 0
    FAILED = 1
    """It ran, and what it was to do went wrong."""
    REFUSED = 2
    """It did not begin: wrong usage, or something that it needs is not there."""
    INTERRUPTED = 130
    """It was ended by Ctrl-C or SIGTERM."""
