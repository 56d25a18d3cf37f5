"""Task queues: what waits for a worker, and the workers that wait for it. In memory only; see `queues`."""
