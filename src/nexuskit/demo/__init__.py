"""`nexus demo`: one durable call across two namespaces.

The example itself is `contract.py`, `payments.py` and `orders.py`. The rest starts a backend, runs the example and
looks at the result.
"""
