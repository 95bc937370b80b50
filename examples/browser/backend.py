"""A page of a site of your own that uses the service: the pages of the site, and a token for who visits them.

Shows    timeconv.js on another site than the service's. The site has the key, and its visitors get tokens that are
         good for a minute; pictures go from the browser straight to the service, which lets pages of this site in.
Needs    a service with a key, and with this site among those allowed; nothing but Python here
Run      .venv/bin/timeconv key my-site                              # prints a key, and its line for keys.txt
         TIMECONV_KEYS_FILE=keys.txt TIMECONV_ALLOWED_ORIGINS=http://127.0.0.1:8001 make serve
         TIMECONV_KEY=tc_... python examples/browser/backend.py      # then open http://127.0.0.1:8001

To a browser http://localhost:8001 is another site, which is not let in.
Elsewhere than on this machine both have to be on https, or browsers give no camera.
"""

import argparse
import json
import os
import sys
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
FILES = {"/": ("index.html", "text/html"), "/faces.js": ("faces.js", "text/javascript")}
TIMEOUT_S = 10


class Site(BaseHTTPRequestHandler):
    """The site. ``service`` and ``key`` are set before it is served."""

    service = ""
    key = ""

    def do_GET(self) -> None:
        """The pages, and where the service is."""
        if self.path in FILES:
            name, kind = FILES[self.path]
            self.answer(200, kind, (HERE / name).read_bytes())
        elif self.path == "/timeconv.js":
            # A real site keeps a copy: the file has no dependencies.
            self.ask(Request(f"{self.service}/page/timeconv.js"))  # noqa: S310 - the address was given by who runs this
        elif self.path == "/service":
            self.answer(200, "application/json", json.dumps({"service": self.service}).encode())
        else:
            self.answer(404, "text/plain", b"Not here")

    def do_POST(self) -> None:
        """A token. Here everybody gets one: a real site looks first who is logged in."""
        if self.path == "/token":
            bearer = {"Authorization": f"Bearer {self.key}"}
            self.ask(Request(f"{self.service}/v1/tokens", method="POST", headers=bearer))  # noqa: S310 - as above
        else:
            self.answer(404, "text/plain", b"Not here")

    def ask(self, request: Request) -> None:
        """Hand on what the service answers: refusals too, which say whether and when to try again."""
        try:
            with urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - as above
                self.answer(reply.status, reply.headers.get_content_type(), reply.read())
        except HTTPError as refused:
            self.answer(refused.code, refused.headers.get_content_type(), refused.read())
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", error)
            away = {"code": "unreachable", "detail": f"The service is away: {why}", "retryable": True}
            self.answer(502, "application/problem+json", json.dumps(away).encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        """Answer with ``body``."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Read the command line, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", default="http://127.0.0.1:8000")
    parser.add_argument("--port", type=int, default=8001)
    given = parser.parse_args()
    Site.service = given.service.rstrip("/")
    Site.key = os.environ.get("TIMECONV_KEY") or sys.exit("TIMECONV_KEY is not set: timeconv key my-site")
    with ThreadingHTTPServer(("127.0.0.1", given.port), Site) as site:
        print(f"http://127.0.0.1:{site.server_port}", flush=True)
        try:
            site.serve_forever()
        except KeyboardInterrupt:
            print("bye")


if __name__ == "__main__":
    main()
