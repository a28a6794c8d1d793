"""Credentials in URLs reach neither a message nor a log handler."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2fp_stream.core.redact import RedactingFilter, install_redaction, redact

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://bob:s3cr3t@cam.lan:554/live", "rtsp://***@cam.lan:554/live"),
        ("rtsp://bob:s3c@r3t@cam.lan/live", "rtsp://***@cam.lan/live"),
        ("open https://cam.lan/v?token=s3cr3t failed", "open https://cam.lan/v?*** failed"),
        ("https://cam.lan/v#key=s3cr3t", "https://cam.lan/v?***"),
        ("'rtsp://u:p@a/1?x=1' and 'http://b/2'", "'rtsp://***@a/1?***' and 'http://b/2'"),
        ("clip.mp4: what? user@host is no URL", "clip.mp4: what? user@host is no URL"),
        ("rtsp://bob:s3 cr3t@cam.lan/live is away", "rtsp://***@cam.lan/live is away"),
        ("bob:s3cr3t@cam.lan/live: no such file", "***@cam.lan/live: no such file"),
        ("bob:s/3@c#r3t@cam.lan/live", "***@cam.lan/live"),
        (
            "camera usb-046d:0825@0000:00:14.0-2: is not connected",
            "camera usb-046d:0825@0000:00:14.0-2: is not connected",
        ),
        (
            "rtsp://cam/user=admin_password=s3cr3t_channel=1.sdp/x",
            "rtsp://cam/user=admin_password=***/x",
        ),
        ("//bob:s3cr3t@cam.lan/live: no such file", "//***@cam.lan/live: no such file"),
        ("unexpected argument 'rtsp://bob:s3cr3t'", "unexpected argument 'rtsp://bob:***'"),
        ("rtsp://cam.lan:554/live, http://cam:80", "rtsp://cam.lan:554/live, http://cam:80"),
        ("http://[::1]:8080/a and http://a:1.", "http://[::1]:8080/a and http://a:1."),
        ("cam.lan/video?user=bob&key=s3cr3t: no file", "cam.lan/video?*** no file"),
        ("is it there? no=1; (what?) a=b", "is it there? no=1; (what?) a=b"),
        ("", ""),
    ],
)
def test_user_query_and_fragment_are_removed(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(
    user=st.text("abcXYZ019-._~%!$&'()*+,;=:@", min_size=1),
    path=st.text("abc/._-", max_size=10),
)
def test_no_user_part_survives(user: str, path: str) -> None:
    url = f"rtsp://{user}{SECRET}@camera/{path}"
    assert (
        redact(f"cannot open {url} (timeout)") == f"cannot open rtsp://***@camera/{path} (timeout)"
    )


@given(st.text(max_size=60))
def test_redacting_twice_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.fixture
def handler() -> Iterator[logging.StreamHandler[io.StringIO]]:
    made = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(made)
    yield made
    logging.getLogger().removeHandler(made)


def test_the_filter_redacts_arguments(handler: logging.StreamHandler[io.StringIO]) -> None:
    install_redaction()
    logging.getLogger("any.module").warning("opening %s", f"rtsp://u:{SECRET}@cam/1")
    assert handler.stream.getvalue() == "opening rtsp://***@cam/1\n"


def test_the_filter_redacts_tracebacks(handler: logging.StreamHandler[io.StringIO]) -> None:
    install_redaction()
    try:
        raise OSError(f"no route to rtsp://u:{SECRET}@cam/1")
    except OSError:
        logging.getLogger("any.module").warning("reconnecting", exc_info=True)
    written = handler.stream.getvalue()
    assert "no route to rtsp://***@cam/1" in written
    assert "Traceback" in written
    assert SECRET not in written


def test_a_handler_that_formats_tracebacks_itself_gets_none() -> None:
    error = OSError(SECRET)
    record = logging.makeLogRecord({"msg": "x", "exc_info": (OSError, error, None)})
    assert RedactingFilter().filter(record)
    assert record.exc_info is None


def test_installing_twice_adds_one_filter(handler: logging.StreamHandler[io.StringIO]) -> None:
    install_redaction()
    install_redaction()
    assert [type(one) for one in handler.filters] == [RedactingFilter]
