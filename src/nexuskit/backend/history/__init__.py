"""The core: executions as pure state machines. No I/O, no clock, no randomness; see `transaction` and `rules`."""
