"""Who did what nobody asked for, in histories: the real server's names for its own parts, which programs may know."""

from __future__ import annotations

SERVER = "history-service"
"""Ends tasks and runs by itself, starts what has to be started."""
RESETTER = "history-resetter"
"""Ends a run from which another one goes on."""
