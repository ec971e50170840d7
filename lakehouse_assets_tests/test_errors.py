"""Store errors carry fields, and their one-line message is built from them."""

from __future__ import annotations

import pickle

import pytest

from lakehouse_assets.archive.errors import StoreFault, fault_of_text, store_error
from lakehouse_assets.errors import DamagedError, ErrorKind, Side, StoreError
from lakehouse_assets_tests.world import World


def test_the_message_is_built_from_the_fields() -> None:
    error = StoreError("Listing", "AccessDenied: no.", side=Side.SOURCE, bucket="b", key="data/", kind=ErrorKind.ACCESS)
    assert str(error) == "Listing s3://b/data/ failed: AccessDenied: no."
    assert error.fields == {
        "error_operation": "Listing",
        "error_side": "source",
        "error_kind": "access",
        "error_bucket": "b",
        "error_key": "data/",
    }


def test_an_error_of_several_objects_has_no_bucket_and_key() -> None:
    error = store_error("Exporting a to b", StoreFault("SlowDown", ""), side=Side.LAKE)
    assert str(error) == "Exporting a to b failed: SlowDown."
    assert error.fields == {
        "error_operation": "Exporting a to b",
        "error_side": "lake",
        "error_kind": "throttled",
    }


def test_a_damaged_record_has_a_remedy_after_the_finding() -> None:
    error = DamagedError("Reading", "the table is damaged (a file is gone)", bucket="b", key="t", remedy="Rebuild it.")
    assert error.kind is ErrorKind.DAMAGED
    assert error.finding == "Reading s3://b/t failed: the table is damaged (a file is gone)."
    assert str(error) == f"{error.finding} Rebuild it."


@pytest.mark.parametrize(
    "error",
    [
        StoreError("Listing", "no", side=Side.SOURCE, bucket="b", kind=ErrorKind.ACCESS),
        DamagedError("Reading", "damaged", bucket="b", key="t", remedy="Rebuild it."),
    ],
)
def test_an_error_survives_the_way_from_another_process(error: StoreError) -> None:
    restored = pickle.loads(pickle.dumps(error))
    assert (type(restored), str(restored), restored.fields) == (type(error), str(error), error.fields)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", ErrorKind.ACCESS),
        ("ExpiredToken", ErrorKind.ACCESS),
        ("NoSuchBucket", ErrorKind.ABSENT),
        ("404", ErrorKind.ABSENT),
        ("SlowDown", ErrorKind.THROTTLED),
        ("503", ErrorKind.THROTTLED),
        ("InternalError", ErrorKind.SERVER),
        ("Unreachable", ErrorKind.UNREACHABLE),
        ("Deadline", ErrorKind.UNREACHABLE),
        ("PreconditionFailed", ErrorKind.CONFLICT),
        ("Overtaken", ErrorKind.CONFLICT),
        ("NotImplemented", ErrorKind.UNSUPPORTED),
        ("NotAListing", ErrorKind.IMPLAUSIBLE),
        ("SomethingNew", ErrorKind.OTHER),
    ],
)
def test_every_code_has_one_kind(code: str, kind: ErrorKind) -> None:
    assert StoreFault(code, "").kind is kind


def test_the_kind_is_the_same_whichever_client_reports_it() -> None:
    of_s5cmd = fault_of_text("NoSuchBucket: The specified bucket does not exist status code: 404, request id: 1")
    of_obstore = fault_of_text("<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>")
    assert of_s5cmd.kind is of_obstore.kind is ErrorKind.ABSENT


def test_errors_name_the_side_of_the_bucket(world: World) -> None:
    assert world.source.side is Side.SOURCE
    assert world.lake.error("Reading", "a/b", StoreFault("404", "")).fields["error_side"] == "lake"
