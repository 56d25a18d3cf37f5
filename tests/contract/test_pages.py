"""A contract's pages: what they show, and that nothing of a contract is taken for markup."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser

from nexusrpc import Operation
from pydantic import BaseModel, Field

from nexuskit.contract import DeclaredError, operation, service, service_contract
from nexuskit.contract.document import describe
from nexuskit.contract.pages import page

EVIL = "<script>alert(1)</script> [x](javascript:y) | `z`\n# not a heading"


class Item(BaseModel):
    cents: int = Field(gt=0, description=EVIL)
    below: list[Item] = []


class Order(BaseModel, title="<b>Order</b>"):
    """What is ordered."""

    items: list[Item]
    note: str | None = None


class SoldOut(DeclaredError):
    """None is left."""

    item: str


@service(version="2")
class OrderService:
    """Takes orders."""

    place: Operation[Order, None] = operation(
        errors=[SoldOut], deadline=timedelta(minutes=1), kind="async", tags=["new"], doc=EVIL
    )


DOCUMENT = describe(service_contract(OrderService))


def test_markdown() -> None:
    found = page(DOCUMENT, "markdown")
    lines = found.splitlines()
    assert lines[:3] == ["# OrderService 2", "", "Takes orders."]
    assert "| place | &lt;b&gt;Order&lt;/b&gt; | nothing | 0:01:00 | async, new |" in lines
    assert "| note | string or nothing | may be missing |" in lines
    assert "### error: SoldOut" in lines
    assert [each for each in lines if each.startswith("| items\\[\\].cents | integer | exclusiveMinimum 0; &lt;script")]
    assert "<" not in found
    assert [each for each in lines if each.startswith("# ")] == ["# OrderService 2"]
    assert "[x](" not in found


def test_html() -> None:
    found = page(DOCUMENT, "html")
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not [name for name, _ in attrs if name.startswith("on") or name == "src"]

    Tags().feed(found)
    assert not {"script", "b", "img", "link", "iframe"} & set(tags)
    assert "&lt;script&gt;alert(1)" in found
    assert "&lt;b&gt;Order&lt;/b&gt;" in found
    assert "default-src &#39;none&#39;" in found or "default-src 'none'" in found


def test_a_type_that_holds_itself_is_shown_once() -> None:
    assert page(DOCUMENT, "markdown").count("items\\[\\].below |") == 1
    assert "below\\[\\].below" not in page(DOCUMENT, "markdown")
