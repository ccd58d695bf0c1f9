"""A sign-in provider on loopback: OpenID Connect as far as one client needs it, for whoever the test says is there."""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT_ID, CLIENT_SECRET = "fleetq-tests", "a secret of the tests"


class OidcProvider:
    """Signs in `person` (claims of the ID token) at once, without a form. `refuses` makes it say no."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {}
        self.refuses = False
        self.ended_sessions = 0
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._nonces: dict[str, str] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._token(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def secrets_file(self, folder: Path, dashboard_url: str) -> Path:
        """The [auth] section for a dashboard."""
        path = folder / "secrets.toml"
        path.write_text(
            f'[auth]\nredirect_uri = "{dashboard_url}/oauth2callback"\ncookie_secret = "{secrets.token_hex(32)}"\n'
            f'client_id = "{CLIENT_ID}"\nclient_secret = "{CLIENT_SECRET}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n'
        )
        return path

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        match address.path:
            case "/.well-known/openid-configuration":
                self._send(request, {
                    "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
                    "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/keys",
                    "end_session_endpoint": f"{self.url}/end", "response_types_supported": ["code"],
                    "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                    "code_challenge_methods_supported": ["S256"],
                })  # fmt: skip
            case "/keys":
                key = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
                self._send(request, {"keys": [key | {"kid": "one", "use": "sig", "alg": "RS256"}]})
            case "/authorize":
                code = secrets.token_hex(8)
                self._nonces[code] = query.get("nonce", "")
                told = {"error": "access_denied"} if self.refuses else {"code": code}
                self._redirect(request, query["redirect_uri"], told | {"state": query["state"]})
            case "/end":
                self.ended_sessions += 1
                self._redirect(request, query["post_logout_redirect_uri"], {})
            case _:
                self._send(request, {"error": "not found"}, 404)

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
        given = {name: values[0] for name, values in parse_qs(body).items()}
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT_ID, "sub": "person-1", "iat": now, "exp": now + 300,
            "nonce": self._nonces.pop(given["code"]), **self.person,
        }  # fmt: skip
        token = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "one"})
        self._send(request, {"access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": token})

    def _send(self, request: BaseHTTPRequestHandler, body: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _redirect(self, request: BaseHTTPRequestHandler, to: str, query: dict[str, str]) -> None:
        request.send_response(302)
        request.send_header("Location", f"{to}?{urlencode(query)}" if query else to)
        request.send_header("Content-Length", "0")
        request.end_headers()
