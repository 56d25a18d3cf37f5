"""Durable calls between teams: Nexus in Python, on one machine or on a Temporal cluster.

`nexuskit.contract` is what two teams agree on.
`nexuskit.backend` runs workflows and routes Nexus calls inside this process; see `nexuskit.backend.serve`.
`nexuskit.protocol` speaks Nexus over HTTP, with Temporal or without.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["__version__", "backend", "contract", "protocol"]

if TYPE_CHECKING:
    from nexuskit import backend as backend
    from nexuskit import contract as contract
    from nexuskit import protocol as protocol
else:
    # Imported on first use, so that whoever needs only the version, or a workflow's sandbox, does not pay for gRPC.
    _PACKAGES = frozenset({"backend", "contract", "protocol"})

    def __getattr__(name):
        if name not in _PACKAGES:
            raise AttributeError(f"module 'nexuskit' has no attribute {name!r}")
        from importlib import import_module

        return import_module(f"nexuskit.{name}")

    def __dir__():
        return sorted({*globals(), *_PACKAGES})
