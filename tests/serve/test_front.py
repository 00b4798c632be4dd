import json

import pytest

from tests.serve.driver import Tap


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (408, "invalid_request_error"),
        (414, "invalid_request_error"),
        (417, "invalid_request_error"),
        (431, "invalid_request_error"),
        (501, "invalid_request_error"),
        (505, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "overloaded_error"),
    ],
)
def test_a_shells_refusal_says_whose_fault_it_is(status, kind):
    refusal = Tap().app.guard.refuse(status, "Why.")
    error = json.loads(refusal.body)["error"]
    assert (refusal.status, error["type"], error["message"]) == (status, kind, "Why.")
