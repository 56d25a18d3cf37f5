"""Where versions come from: modules, files, documents, revisions of git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nexuskit.contract.sources import Location, SourceError, load

CONTRACT = '''
from nexusrpc import Operation
from nexuskit.contract import service
from payments.types import Payment

@service
class PaymentService:
    """Takes payments."""

    process: Operation[Payment, int]
    """Charges a card."""

@service
class RefundService:
    refund: Operation[Payment, None]
'''
TYPES = """
from pydantic import BaseModel

class Payment(BaseModel):
    {field}: int
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a package in a folder of its own, at two revisions, and the files of a third state."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "src" / "payments"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "contract.py").write_text(CONTRACT)
    git("init", "-q", "-b", "main")
    for field in ("first", "second"):
        (package / "types.py").write_text(TYPES.format(field=field))
        git("add", ".")
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", field)
        git("tag", field)
    (package / "types.py").write_text(TYPES.format(field="third"))
    return tmp_path


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def fields(source: str) -> list[str]:
    return list(load(source).document.services[0].operations[0].input["properties"])


FILE = "src/payments/contract.py"


def test_a_file_of_a_package_is_imported_with_its_package(project: Path) -> None:
    loaded = load(FILE)
    assert [each.name for each in loaded.document.services] == ["PaymentService", "RefundService"]
    assert fields(FILE) == ["third"]
    assert loaded.locations["PaymentService.process"] == Location(FILE, 10)
    assert loaded.locations["RefundService"] == Location(FILE, 13)


def test_one_service_of_a_file(project: Path) -> None:
    loaded = load(f"{FILE}:RefundService")
    assert [each.name for each in loaded.document.services] == ["RefundService"]


def test_a_revision_is_read_whole_and_not_mixed_with_todays_files(project: Path) -> None:
    assert fields(f"first:{FILE}") == ["first"]
    assert fields(f"git:main:{FILE}") == ["second"]
    assert fields(f"main~1:{FILE}:PaymentService") == ["first"]
    assert load(f"first:{FILE}").locations["PaymentService.process"] == Location(FILE, 10)


def test_a_path_of_a_revision_is_as_it_would_be_typed_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "src")
    assert fields("first:payments/contract.py") == ["first"]


def test_a_module_is_found_from_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "src")
    assert fields("payments.contract") == ["third"]
    assert [each.name for each in load("payments.contract:RefundService").document.services] == ["RefundService"]


def test_a_document_of_a_file_and_of_a_revision(project: Path) -> None:
    document = load(FILE).document
    Path("contract.json").write_text(document.to_json())
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "document")
    assert load("contract.json").document == document
    assert load("main:contract.json").document == document
    assert [each.name for each in load("contract.json:RefundService").document.services] == ["RefundService"]


def test_nothing_is_left_beside_the_files(project: Path) -> None:
    load(FILE)
    assert not [*project.rglob("__pycache__")]


def test_what_a_module_imports_from_elsewhere_is_not_its_own(project: Path) -> None:
    Path("other.py").write_text("import sys; sys.path.append('src')\nfrom payments.contract import RefundService\n")
    with pytest.raises(SourceError, match=r"other has no service: .* It imports RefundService: name one, or __all__\."):
        load("other.py")
    assert load("other.py:RefundService").document.services[0].name == "RefundService"
    Path("other.py").write_text(Path("other.py").read_text() + "__all__ = ['RefundService']\n")
    assert load("other.py").document.services[0].name == "RefundService"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("nowhere", "its import fails: ModuleNotFoundError: No module named 'nowhere'"),
        ("no/where", "names no contract"),
        ("nowhere:src/payments/contract.py", "git finds no nowhere"),
        ("--output=x:src/payments/contract.py", "git finds no --output=x"),
        ("main:nowhere.py", "main has no file nowhere.py"),
        ("main:nowhere.json", "git finds no nowhere.json in main"),
        ("main:../contract.py", "is not in this repository"),
        ("src/payments/types.py", "payments.types has no service"),
        ("src/payments/contract.py:Nobody", "payments.contract has no class Nobody"),
        ("src/payments/contract.py:Payment", "it is no service"),
        ("broken.py", r"its import fails: ZeroDivisionError: division by zero \(broken.py, line 2\)"),
        ("ends.py", r"its import ended Python \(3\)"),
        ("ast.py", r"Python knows ast from another file"),
        ("empty.json", "it is no document of a contract"),
    ],
)
def test_what_cannot_be_read_is_told(project: Path, source: str, said: str) -> None:
    Path("broken.py").write_text("import os\n1 / 0\n")
    Path("ends.py").write_text("import os\nos._exit(3)\n")
    Path("ast.py").write_text("")
    Path("empty.json").write_text("[]")
    with pytest.raises(SourceError, match=said):
        load(source)


def test_a_contract_that_speaks_while_it_is_imported(project: Path) -> None:
    Path("speaks.py").write_text(
        "print('hello')\nimport sys; sys.path.append('src')\nfrom payments.contract import *\n"
    )
    assert load("speaks.py:PaymentService").document.services[0].name == "PaymentService"


def test_where_there_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(SourceError, match="git says: fatal: not a git repository"):
        load("main:contract.py")
