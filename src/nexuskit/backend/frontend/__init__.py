"""The doors: gRPC and HTTP in, checks, translation into what the core and the engine understand, and back."""
