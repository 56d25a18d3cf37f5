"""What two teams agree on: services, their types and their errors, in one place that both import.

A plain `@nexusrpc.service` class is a contract. `service`, `operation` and `DeclaredError` add deadlines, docs and
errors with fields; values are checked against the types on both sides of a call.
"""

from nexuskit.contract.adapters import Adapter, TypeFaultError, adapter
from nexuskit.contract.declared import DeclaredError
from nexuskit.contract.definition import (
    ContractError,
    OperationContract,
    ServiceContract,
    operation,
    operation_contract,
    service,
    service_contract,
)
from nexuskit.contract.faults import Fault, InvalidValueError
from nexuskit.contract.optional import MayBeMissing

__all__ = [
    "Adapter",
    "ContractError",
    "DeclaredError",
    "Fault",
    "InvalidValueError",
    "MayBeMissing",
    "OperationContract",
    "ServiceContract",
    "TypeFaultError",
    "adapter",
    "operation",
    "operation_contract",
    "service",
    "service_contract",
]
