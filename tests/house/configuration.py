"""Makes docs/configuration.md from the limits: `python -m tests.house.configuration docs/configuration.md`."""

from __future__ import annotations

import ast
import inspect
import sys
from itertools import pairwise
from pathlib import Path

from nexuskit.backend import limits
from nexuskit.backend.configuration import CHOICES, FIXED, OUTBOUND, SIZES, SPANS, Kind, kind, settable

HEAD = """# Configuration

`nexus serve --config FILE` reads limits other than the defaults, and where requests may go, from a TOML file;
`nexuskit.backend.serve(config=...)` takes the file, or what would be in it.

```toml
unknown_endpoint = "fail_task"

[outbound]
allow = ["payments.example.com:443", "http://hooks.example.com:8080"]
public_url = "https://orders.example.com"

[limits]
history_events = 10_000       # a number
payload_size = "4 MiB"        # bytes: a number, or a text with B, KiB or MiB
long_poll = "30 s"            # a time: a text with ms, s, min, h or d
```

A key that is not known, a value of another type and one that makes no sense are refused, in one sentence and with exit
code 2. This page is made by `python -m tests.house.configuration docs/configuration.md`.
"""


OUTBOUND_HEAD = """An endpoint may route to a URL, and whoever starts a workflow, an update or an activity may name
one that is to be told its end. Such requests go where this list says and nowhere else; each name is looked up once for
a request, and the address that was found is the one that is used; redirects are not followed. What may not go where it
was to go fails, and says what to add here."""

OUTBOUND_DEFAULTS = {"allow": "`[]`: nowhere", "public_url": "the address that it listens on", "ca_file": ""}


def document() -> str:
    """The whole page."""
    said = _said()
    parts = [HEAD, "| key | default | what it is |", "| --- | --- | --- |"]
    parts += [f'| `{name.lower()}` | `"{getattr(limits, name)}"` | {said[name]} |' for name in CHOICES]
    parts += ["", "## [outbound]", "", OUTBOUND_HEAD, "", "| key | default | what it is |", "| --- | --- | --- |"]
    parts += [f"| `{name}` | {default} | {OUTBOUND[name]} |" for name, default in OUTBOUND_DEFAULTS.items()]
    parts += ["", "## [limits]", "", "| key | default | what it is |", "| --- | --- | --- |"]
    parts += [f"| `{name.lower()}` | {_shown(name)} | {said[name]} |" for name in settable()]
    parts += ["", "## What cannot be set", ""]
    parts += [f"- `{name.lower()}`: {reason}." for name, reason in FIXED.items()]
    return "\n".join([*parts, ""])


def _shown(name: str) -> str:
    value = getattr(limits, name)
    units = {Kind.TIME: SPANS, Kind.SIZE: SIZES}.get(kind(name))
    if units is None:
        return f"{value:g}" if isinstance(value, float) else f"{value:,}"
    unit, scale = next((unit, scale) for unit, scale in reversed(units.items()) if value % scale == 0)
    return f"{value // scale:,} {unit}"


def _said() -> dict[str, str]:
    """Name of each constant → what stands beside it."""
    body = ast.parse(inspect.getsource(limits)).body
    found: dict[str, str] = {}
    for constant, text in pairwise(body):
        if not isinstance(constant, ast.Assign) or not isinstance(constant.targets[0], ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[constant.targets[0].id] = " ".join(str(text.value.value).split())
    return found


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        Path(argument).write_text(document(), encoding="utf-8")
