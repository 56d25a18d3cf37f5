"""An OpenAPI 3.1 document of services, made from the types of their operations.

Specification: Start Operation and Cancel Operation, in the words of https://spec.openapis.org/oas/v3.1.0. Each
operation is one path, which is its id too: names are quoted there, so that no two are the same. The schemas are those
of pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PydanticUserError, TypeAdapter

from nexuskit.protocol.content import RawValue, adapter
from nexuskit.protocol.errors import LocalProtocolError
from nexuskit.protocol.failures import STATUS_BY_TYPE, UNSUCCESSFUL_STATUS
from nexuskit.protocol.paths import cancel_path, operation_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexusrpc import HandlerErrorType, OperationDefinition, ServiceDefinition
    from pydantic.json_schema import JsonSchemaMode

__all__ = ["openapi_document"]

_READ: JsonSchemaMode = "validation"
_WRITTEN: JsonSchemaMode = "serialization"
_REF = "#/components/schemas/{model}"
_FAILURE = {"$ref": "#/components/schemas/nexus.Failure"}
_TIMEOUT: dict[str, Any] = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m)$", "examples": ["500ms"]}


def openapi_document(
    services: Iterable[ServiceDefinition],
    *,
    title: str,
    version: str,
    server: str = "/",
    descriptions: Mapping[tuple[str, str], str] | None = None,
) -> dict[str, Any]:
    """The document, ready to be written as JSON.

    Args:
        services: what is served.
        title: what the whole is called.
        version: of the document.
        server: the URL prefix of all paths.
        descriptions: what an operation does, by names of service and operation.

    A type that pydantic knows nothing of is described as any content, and the description says so.
    """
    definitions = [(service, list(service.operation_definitions.values())) for service in services]
    schemas, components = _schemas(operation for _, operations in definitions for operation in operations)
    paths: dict[str, Any] = {}
    for service, operations in definitions:
        for operation in operations:
            told = (descriptions or {}).get((service.name, operation.name), "")
            paths[operation_path(service.name, operation.name)] = {
                "post": _start(service.name, operation, schemas, told)
            }
            paths[cancel_path(service.name, operation.name)] = {"post": _cancel(service.name, operation)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {"schemas": components | _protocol_schemas()},
    }


def _schemas(operations: Iterable[OperationDefinition[Any, Any]]) -> tuple[dict[tuple[int, str], Any], dict[str, Any]]:
    """The schema of each type, by its identity and whether it is read or written, and the schemas these refer to."""
    wanted: dict[tuple[int, str], tuple[tuple[int, str], JsonSchemaMode, TypeAdapter[Any]]] = {}
    for operation in operations:
        types: tuple[tuple[Any, JsonSchemaMode], ...] = (
            (operation.input_type, _READ),
            (operation.output_type, _WRITTEN),
        )
        for as_type, mode in types:
            key = (id(as_type), mode)
            if key in wanted or as_type in {None, type(None), bytes, RawValue}:
                continue
            try:
                found = adapter(as_type)
                found.json_schema(mode=mode)
            except (LocalProtocolError, PydanticUserError):
                continue  # told as any content
            wanted[key] = (key, mode, found)
    made, shared = TypeAdapter.json_schemas(list(wanted.values()), ref_template=_REF)
    return {key: schema for (key, _), schema in made.items()}, shared.get("$defs", {})


def _content(as_type: Any, mode: str, schemas: Mapping[tuple[int, str], Any]) -> dict[str, Any] | None:
    """The body of a type, or None where it is empty."""
    if as_type in {None, type(None)}:
        return None
    if as_type is bytes:
        return {"application/octet-stream": {}}
    schema = schemas.get((id(as_type), mode))
    if schema is None:
        return {"*/*": {}}
    return {"application/json": {"schema": schema}}


def _may_be_empty(content: dict[str, Any]) -> bool:
    """Whether a body may be left out: None travels as an empty one."""
    if "*/*" in content:
        return True
    schema = content.get("application/json", {}).get("schema")
    if schema is None:  # bytes
        return False
    parts = [schema, *schema.get("anyOf", [])]
    return not schema or any(part.get("type") == "null" for part in parts)


def _start(
    service: str, operation: OperationDefinition[Any, Any], schemas: Mapping[tuple[int, str], Any], told: str
) -> dict[str, Any]:
    succeeded: dict[str, Any] = {
        "description": "The operation completed successfully.",
        "headers": {
            "Nexus-Operation-State": {"schema": {"const": "succeeded"}},
            "Nexus-Link": _header("Where the handler's side of the call can be seen."),
        },
    }
    if content := _content(operation.output_type, "serialization", schemas):
        succeeded["content"] = content
        if _may_be_empty(content):
            succeeded["description"] += " The body is empty if there is no result."
    found: dict[str, Any] = {
        "operationId": operation_path(service, operation.name).lstrip("/"),
        "tags": [service],
        "summary": operation.name,
        "parameters": [
            _parameter("query", "callback", "Where the completion goes if the operation is asynchronous."),
            _parameter("header", "Nexus-Request-Id", "The same for every attempt of one start."),
            _parameter("header", "Request-Timeout", "How long the caller waits for the answer.", _TIMEOUT),
            _parameter("header", "Operation-Timeout", "How long the caller waits for the completion.", _TIMEOUT),
            _parameter("header", "Nexus-Link", "Where the caller's side of the call can be seen."),
        ],
        "responses": {
            "200": succeeded,
            "201": {
                "description": "The operation was started and completes by the callback.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/nexus.OperationInfo"}}},
            },
            str(UNSUCCESSFUL_STATUS): _failure("The operation failed or was cancelled."),
            **_handler_errors(),
        },
    }
    if content := _content(operation.input_type, "validation", schemas):
        found["requestBody"] = {"required": not _may_be_empty(content), "content": content}
    if told:
        found["description"] = told
    return found


def _cancel(service: str, operation: OperationDefinition[Any, Any]) -> dict[str, Any]:
    return {
        "operationId": cancel_path(service, operation.name).lstrip("/"),
        "tags": [service],
        "summary": f"Cancel {operation.name}",
        "parameters": [
            _parameter("header", "Nexus-Operation-Token", "The operation token; or as parameter token."),
            _parameter("query", "token", "The operation token; or as header field Nexus-Operation-Token."),
            _parameter("header", "Request-Timeout", "How long the caller waits for the answer.", _TIMEOUT),
        ],
        "responses": {"202": {"description": "The request to cancel was accepted."}, **_handler_errors()},
    }


def _handler_errors() -> dict[str, Any]:
    return {str(status): _failure(_words(kind)) for kind, status in STATUS_BY_TYPE.items()}


def _words(kind: HandlerErrorType) -> str:
    return f"The request was not handled: {kind.value}."


def _failure(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _FAILURE}}}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _parameter(place: str, name: str, description: str, schema: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"in": place, "name": name, "description": description, "schema": schema or {"type": "string"}}


def _protocol_schemas() -> dict[str, Any]:
    """Specification: Schema Definitions."""
    return {
        "nexus.Failure": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "stackTrace": {"type": "string"},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                "details": {},
                "cause": _FAILURE,
            },
        },
        "nexus.OperationInfo": {
            "type": "object",
            "properties": {
                "token": {"type": "string"},
                "state": {"enum": ["succeeded", "failed", "canceled", "running"]},
            },
            "required": ["token", "state"],
        },
    }
