"""Every public name says what it is, and which section of the specification it implements."""

import inspect
from importlib import import_module

import nexuskit.protocol

ADAPTERS = ("asgi", "callbacks", "client", "content", "openapi", "outbound", "receiver")

# What the specification leaves to an implementation: errors of its own, where requests may go, HTTP itself.
BEYOND = {
    "AllowList",
    "CallbackSigner",
    "Destination",
    "DestinationRefusedError",
    "GuardedTransport",
    "HttpRequest",
    "HttpResponse",
    "InvalidTokenError",
    "LocalProtocolError",
    "OperationTimedOutError",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestTimedOutError",
    "ResponseTooLargeError",
    "SerializerError",
    "TransportError",
    "certificates",
    "exchange",
    "guarded_client",
    "resolve",
    "status_text",
}


def test_every_public_name_is_documented_with_its_section() -> None:
    modules = [nexuskit.protocol, *(import_module(f"nexuskit.protocol.{name}") for name in ADAPTERS)]
    named = {name: getattr(module, name) for module in modules for name in module.__all__}
    things = {name: thing for name, thing in named.items() if inspect.isfunction(thing) or inspect.isclass(thing)}
    undocumented = {name for name, thing in things.items() if not thing.__doc__}
    assert not undocumented
    told = {
        name
        for name, thing in things.items()
        if "pecification" in thing.__doc__ or "pecification" in (inspect.getmodule(thing).__doc__ or "")
    }
    assert {name for name in things if name not in told and "RFC" not in things[name].__doc__} <= BEYOND
    assert set(things) >= BEYOND


def test_every_public_method_is_documented() -> None:
    modules = [nexuskit.protocol, *(import_module(f"nexuskit.protocol.{name}") for name in ADAPTERS)]
    classes = {
        thing for module in modules for name in module.__all__ if inspect.isclass(thing := getattr(module, name))
    }
    bare = [
        f"{thing.__name__}.{name}"
        for thing in classes
        for name, member in vars(thing).items()
        if not name.startswith("_") and inspect.isfunction(member) and not inspect.getdoc(member)
    ]
    assert not bare
