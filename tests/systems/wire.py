"""A small HTTP server that speaks the OpenAI chat protocol, with the faults real ones have."""

import json
import math
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Wire(ThreadingHTTPServer):
    """Answers yes when the candidate's first word stands in the history, no otherwise.

    Attributes
    ----------
    faults: what to answer before anything else, one a request: (status, headers, body).
    logprobs: "given", "null" (left out of the answer) or "refused" (status 400).
    say: words to answer instead of Yes and No.
    slow: seconds an answer takes.
    read: tokens it says it read.
    seen: (time, body, headers) of every request.
    most: largest number of requests under way at a time.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults, self.logprobs, self.say, self.slow, self.read = [], "given", None, 0.0, 40
        self.seen, self.now, self.most, self.lock = [], 0, 0, threading.Lock()
        self.answered = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.seen.append((time.monotonic(), body, dict(self.headers)))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
            fault = self.server.faults.pop(0) if self.server.faults else None
        time.sleep(self.server.slow)
        try:
            self._reply(*(fault or self._answer(body)))
            self.server.answered += fault is None
        except OSError:  # the client was killed
            pass
        finally:
            with self.server.lock:
                self.server.now -= 1

    def _answer(self, body):
        if body.get("logprobs") and self.server.logprobs == "refused":
            return 400, {}, {"error": {"message": "this model does not support logprobs", "code": "bad"}}
        text = body["messages"][-1]["content"]
        history, candidate = text.split("\nNew: ")
        chance = 0.75 if f"- {candidate.split()[0]} " in history else 0.25
        word = self.server.say or ("Yes" if chance > 0.5 else "No")
        top = [("Yes", chance - 0.05), (" yes", 0.05), ("No", 0.9 - chance), ("Maybe", 0.1)]
        said = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in top]
        content = [{"token": word, "logprob": 0.0, "bytes": None, "top_logprobs": said}]
        given = body.get("logprobs") and self.server.logprobs == "given"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": word}}
        choice["logprobs"] = {"content": content} if given else None
        usage = {"prompt_tokens": self.server.read, "completion_tokens": 2, "total_tokens": self.server.read + 2}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        return 200, {}, whole | {"usage": usage}

    def _reply(self, status, headers, body):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, str) else "application/json"
        self.send_response(status)
        for name, value in ({"content-type": kind, "content-length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving():
    """A server in a thread of this process."""
    server = Wire()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
