"""`python -m nexuskit.cli` is `nexus`."""

from nexuskit.cli.app import main

if __name__ == "__main__":
    main()
