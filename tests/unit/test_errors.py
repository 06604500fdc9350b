"""What an operator is told of an exception."""

from __future__ import annotations

import pytest
from glanceclient.exc import HTTPConflict
from keystoneauth1.exceptions import Conflict
from novaclient.exceptions import BadRequest, Forbidden

from pumphouse.errors import PumphouseError, explain, http_status


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PumphouseError("it broke", "mend it"), "it broke; mend it"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (
            Conflict("taken", http_status=409, request_id="req-1"),
            "the cloud answered 409: taken (request req-1)",
        ),
        (
            Forbidden(403, "Quota exceeded", request_id="req-2"),
            "the cloud answered 403: Quota exceeded; the operator's role or a quota of the project forbids it"
            " (request req-2)",
        ),
        (
            HTTPConflict(details="<html> <head><title>409</title></head> <body>not qcow2</body></html>"),
            "the cloud answered 409: not qcow2",
        ),
    ],
)
def test_explanation(error: Exception, text: str) -> None:
    assert str(explain(error)) == text


def test_status_of_an_error_that_is_no_answer() -> None:
    assert http_status(ValueError()) is None


@pytest.mark.parametrize(
    "error",
    [
        BadRequest(
            400, "Invalid input for field/attribute user_data. Value: aHVzaA==. 'aHVzaA==' is not 'base64'"
        ),
        BadRequest(
            400, "Invalid input for field/attribute server. Value: {'name': 'a', 'user_data': 'aHVzaA=='}."
        ),
        Conflict('the body was {"user": {"name": "bob", "password": "aHVzaA=="}}', http_status=409),
        BadRequest(400, f"{'x' * 470} {{'adminPass': 'aHVzaA==aHVzaA==aHVzaA=='}}"),
        PumphouseError("mysql://keystone:aHVzaA==@db/keystone does not answer"),
        ValueError("{'admin_pass': 'aHVzaA=='}"),
    ],
)
def test_no_secret_of_a_request_is_explained(error: Exception) -> None:
    assert "***" in str(explain(error)) or len(str(error)) > 500
    assert "aHV" not in str(explain(error))
