"""Nexus in the backend: endpoints, calls to handlers, completion callbacks."""
