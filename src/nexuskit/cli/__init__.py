"""The command line: `nexus`. Its commands and exit codes are described in docs/cli.md."""

from nexuskit.cli.app import main

__all__ = ["main"]
