"""Errors that are part of a contract: exception classes with typed fields."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, PydanticUserError, create_model
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from nexuskit.contract.adapters import Adapter, TypeFaultError, adapter
from nexuskit.contract.faults import Fault, InvalidValueError

E = TypeVar("E", bound="DeclaredError")

TAKEN = frozenset(name for name in dir(ApplicationError) if not name.startswith("_"))
"""Names that every application error has, and so no field can have."""


@dataclass_transform(kw_only_default=True)
class DeclaredError(ApplicationError):
    """Root of errors that a contract declares.

    A subclass has typed fields, and its docstring's first line is its message. Raised by a handler, by the workflow
    behind it or by an activity of that, it reaches the caller as the same class with the same fields::

        class CardDeclined(nexuskit.DeclaredError):
            "The card was refused."
            reason: str

        raise CardDeclined(reason="expired")

    It travels as an application failure: its type is the class's name, or `name`, and its details are its fields, as
    one object. It is not retried, unless the class says `retryable=True`. It is a matter of daily business, which the
    worker's log keeps at debug level.

    Raises:
        InvalidValueError: a field is missing, is unknown, or its type does not take the value.
    """

    error_name: ClassVar[str] = "DeclaredError"
    """What travels as its type."""
    retryable: ClassVar[bool] = False
    """Whether whoever raised it is tried again."""

    _adapter: ClassVar[Adapter[BaseModel] | None] = None

    def __init_subclass__(cls, *, name: str = "", retryable: bool = False, **more: Any) -> None:
        super().__init_subclass__(**more)
        taken = sorted(TAKEN & inspect.get_annotations(cls).keys())
        if taken:
            raise TypeError(
                f"{cls.__module__}.{cls.__qualname__} has fields called {', '.join(taken)}: every error of Temporal has"
                " something of that name. Choose another one."
            )
        cls.error_name = name or cls.__name__
        cls.retryable = retryable
        cls._adapter = None

    def __init__(self, **fields: Any) -> None:
        known = self.fields()
        if unknown := [name for name in fields if name not in known.type.model_fields]:
            problem = f"{self.error_name} has no such field"
            raise InvalidValueError([Fault(name, problem, "extra_forbidden") for name in unknown])
        checked = known.check(fields)  # pyright: ignore[reportArgumentType]
        super().__init__(
            self.summary(),
            checked.model_dump(mode="json"),
            type=self.error_name,
            non_retryable=not self.retryable,
            category=ApplicationErrorCategory.BENIGN,
        )
        for name in known.type.model_fields:
            setattr(self, name, getattr(checked, name))

    @classmethod
    def summary(cls) -> str:
        """The first line of its docstring; its name where there is none."""
        # Not a parent's: that speaks of something else.
        said = inspect.cleandoc(cls.__dict__.get("__doc__") or "").strip()
        return said.splitlines()[0] if said else cls.error_name

    @classmethod
    def fields(cls) -> Adapter[BaseModel]:
        """The adapter of its fields together, which are an object.

        Raises:
            TypeFaultError: the type of a field cannot travel, or cannot be found.
        """
        # Made on first use, when the names that the fields' types use are there.
        if cls._adapter is None:
            cls._adapter = adapter(_model(cls))
        return cls._adapter

    @classmethod
    def from_details(cls: type[E], details: Any) -> E:
        """The error that a failure's details mean, whichever SDK made it. Fields of a newer version are left out.

        Args:
            details: what travelled: an object.

        Raises:
            InvalidValueError: they are not what the contract says.
        """
        fields = cls.fields()
        read = fields.check(details)
        return cls(**{name: getattr(read, name) for name in read.model_fields_set})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its fields: other exceptions are by their arguments, and this one takes none by place."""
        return _made, (type(self), self.details[0])


def _made(class_: type[E], details: dict[str, Any]) -> E:
    return class_.from_details(details)


def _model(class_: type[DeclaredError]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    try:
        for each in reversed(class_.__mro__):
            if issubclass(each, DeclaredError) and each is not DeclaredError:
                hints = get_type_hints(each, include_extras=True)
                own = inspect.get_annotations(each)
                fields |= {name: (hints[name], each.__dict__.get(name, ...)) for name in own}
        return create_model(class_.error_name, __config__=ConfigDict(extra="ignore"), **fields)
    except (NameError, TypeError, PydanticSchemaGenerationError, PydanticUserError) as error:
        why = str(error).splitlines()[0].partition(". ")[0]
        raise TypeFaultError(f"the fields of {class_.__qualname__} cannot travel: {why}") from None
