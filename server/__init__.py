"""The online part: one module per gRPC service."""
