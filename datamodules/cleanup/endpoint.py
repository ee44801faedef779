"""A language model behind an OpenAI-compatible endpoint; report text stays on this machine unless a flag says so.

The address that a connection really reached is looked at before anything is sent, so that neither a name that resolves
to another machine nor one that changes in between leaks. No proxy is used and no redirect is followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from datamodules.cleanup.prompt import SCHEMA
from medvl.errors import ConfigError
from medvl.text.untrusted import parse_json

_LONGEST = 8 << 20  # bytes of an answer


class NoAnswerError(Exception):
    """A question was not answered.

    Args:
        reason: Why, in one word to count by; never what was asked.
        again: Whether asking again may help.
    """

    def __init__(self, reason: str, again: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.again = reason, again


@dataclass(frozen=True)
class Endpoint:
    """`POST URL/chat/completions` with temperature 0 and a JSON schema.

    Args:
        url: For example `http://localhost:8000/v1`.
        model: The model's name there; what verdicts are kept under.
        allow_remote: Whether report text may go to another machine.
        timeout: Seconds to wait for a connection, for the start of an answer, and for its end.
        max_tokens: Longest answer.
        key: Bearer token, if the endpoint asks for one.

    Raises:
        ConfigError: The URL is none, or of another machine without `allow_remote`.
    """

    url: str
    model: str
    allow_remote: bool = False
    timeout: float = 120.0
    max_tokens: int = 2048
    key: str = ""

    def __post_init__(self) -> None:
        parts = self._parts
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "the endpoint is no URL", where="--llm-endpoint", hint="expected http://localhost:8000/v1"
            )
        if not self.allow_remote and not _leads_here(parts.hostname):
            raise refusal(parts.hostname)

    @property
    def name(self) -> str:
        """What verdicts are kept under."""
        return self.model

    @property
    def _parts(self) -> SplitResult:
        try:
            parts = urlsplit(self.url)
            _ = parts.port
        except ValueError:
            return urlsplit("")
        return parts

    def ask(self, task: str, question: str) -> str:
        """Return the model's answer.

        Raises:
            NoAnswerError: There was none.
            ConfigError: The connection reached another machine, or the endpoint does not know the model or the path.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "system", "content": task}, {"role": "user", "content": question}],
            "temperature": 0,
            "seed": 0,
            "max_tokens": self.max_tokens,
        }
        form = {"type": "json_schema", "json_schema": {"name": "verdicts", "strict": True, "schema": SCHEMA}}
        status, content = self._post(body | {"response_format": form})
        if status in (400, 422):  # a server that knows no schemas; the answer is checked anyway
            status, content = self._post(body)
        if status in (401, 403, 404):
            hint = "expected a base such as http://localhost:8000/v1, a model that it serves, and its key if it has one"
            raise ConfigError(f"the endpoint answered {status}", where="--llm-endpoint", hint=hint)
        if status != 200:
            reason = "redirected" if 300 <= status < 400 else "refused" if status < 500 else "server-error"
            raise NoAnswerError(reason, again=status >= 500 or status in (408, 409, 429))
        return _content(content)

    def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        parts = self._parts
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        path = parts.path.rstrip("/") or "/v1"
        path += "" if path.endswith("/chat/completions") else "/chat/completions"
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            connection.connect()
            self._check_peer(connection)
            connection.request("POST", f"{path}?{parts.query}" if parts.query else path, json.dumps(body), headers)
            response = connection.getresponse()
            content = _read(response, time.monotonic() + self.timeout)
        except TimeoutError:
            raise NoAnswerError("timed-out", again=True) from None
        except (OSError, http.client.HTTPException):
            raise NoAnswerError("unreachable", again=True) from None
        finally:
            connection.close()
        return response.status, content

    def _check_peer(self, connection: http.client.HTTPConnection) -> None:
        """Raise where the connection leads to another machine and may not."""
        if not self.allow_remote and not _is_loopback(connection.sock.getpeername()[0]):
            raise refusal(self._parts.hostname or "")


def refusal(host: str) -> ConfigError:
    """Return the error for an endpoint that is not on this machine."""
    return ConfigError(
        f"the language model at {host!r} is not on this machine: report text is not sent there",
        where="--llm-endpoint",
        hint="data use agreements (PhysioNet's among them) forbid sharing reports with third parties",
        command="serve a model on localhost, or add --allow-remote-report-text if your agreement permits it",
    )


def _leads_here(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(_is_loopback(str(address[4][0])) for address in found)


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Return the body; one that comes by drops is not waited for."""
    parts, length = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        length += len(part)
        if length > _LONGEST:
            raise NoAnswerError("too-long")
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _content(content: bytes) -> str:
    """Return the text of a chat completion; empty, and so garbage, for anything else."""
    try:
        text = parse_json(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return text if isinstance(text, str) else ""
