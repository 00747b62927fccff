"""Stands in for a front end that was built: a page with its colour and its version. SIGTERM ends it after the
requests at hand."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = f"{os.environ.get('APP_VERSION', 'dev')} {os.environ['BACKGROUND_COLOR']}\n".encode()


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("0.0.0.0", 3000), Page)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("serves", PAGE.decode(), end="", flush=True)
server.serve_forever()
