"""What the tests share: servers to run against, raw gRPC calls, and sample workflows."""
