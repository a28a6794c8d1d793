"""Keeps credentials out of logs and messages.

Credentials travel in URLs: the user part (RFC 3986, section 3.2.1) and query values. Redaction
happens once, in the logger and in `redact()`, not call site by call site.
"""

from __future__ import annotations

import logging
import re

__all__ = ["RedactingFilter", "install_redaction", "redact"]

# Up to the last @ of the word: a password may hold an unescaped / or @. A path with an @ loses more
# than it must, which is the safe side.
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)\S*@")
# A password with spaces: from user and colon to the line's last @ that is followed by a host.
_SPACED = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@:]+:(?:(?!://)[^\n'\"])*@(?=[\w\[])"
)
# The scheme was forgotten. A camera's port (`sources.camera.CameraId.by_port`) looks like it.
_BARE = re.compile(
    r"(?<![\w/@.:*-])(?!usb-[0-9a-f]{4}:[0-9a-f]{4}@)[^\s'\"/@:]+:(?!//)[^\s'\"]+@(?=[\w\[])"
)
# So was its name: //user:password@camera.
_SLASHED = re.compile(r"(?<![:/])//[^\s/@:]+:[^\s'\"]*@(?=[\w\[])")
# A password with a space that no quotes held together: what stands here is its beginning.
_CUT = re.compile(
    r"(?P<user>[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@:\[]+):(?!\d+(?:[/?#\s'\";,.:)]|$))[^\s'\"]+"
)
# A query without a scheme before it.
_ASKED = re.compile(r"(?<=[^\s'\"?])\?(?=[^\s'\"=]*=)[^\s'\"]+")
_QUERY = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.-]*://[^\s?#]*)[?#][^\s'\"]*")
# Some cameras want the password in the path: /user=admin_password=..._channel=1_stream=0.sdp
_NAMED = re.compile(r"(?P<name>(?:password|passwd|pwd|pass)=)[^\s&/'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """Returns `text` with the user part, query and fragment of every URL in it removed.

    So is `user:password@` where the scheme was forgotten.
    """
    for pattern in (_USER, _SPACED):
        text = pattern.sub(r"\g<scheme>***@", text)
    text = _BARE.sub("***@", _CUT.sub(r"\g<user>:***", _SLASHED.sub("//***@", text)))
    text = _NAMED.sub(r"\g<name>***", text)
    return _ASKED.sub("?***", _QUERY.sub(r"\g<head>?***", text))


class RedactingFilter(logging.Filter):
    """Formats each record once, redacts it, and drops tracebacks' locals by design."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites `record` in place; always lets it through."""
        record.msg = redact(record.getMessage())
        record.args = ()
        if record.exc_info is not None:
            formatter = logging.Formatter()
            record.exc_text = redact(formatter.formatException(record.exc_info))
            record.exc_info = None
        if record.stack_info is not None:
            record.stack_info = redact(record.stack_info)
        return True


def install_redaction() -> None:
    """Puts the filter before every handler of the root logger; call after adding handlers."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(existing, RedactingFilter) for existing in handler.filters):
            handler.addFilter(RedactingFilter())
