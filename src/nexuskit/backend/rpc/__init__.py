"""The gRPC door: unary calls over HTTP/2 in clear text, on the event loop that answers them.

`frames`, `fields`, `decoding`, `sending`, `events` and `connection` are HTTP/2 without a socket (RFC 9113, RFC 7541);
`messages` is gRPC's way to carry a call in it (grpc/grpc: doc/PROTOCOL-HTTP2.md); `server` gives them sockets and
tasks.
"""
