# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest agent without a guest: it takes the place of the agent socket of a QEMU."""

from __future__ import annotations

import json
import socketserver
import threading
from pathlib import Path
from types import TracebackType
from typing import Any


class Agent:
    """Serves with the block; ``heard`` are the commands it was sent. ``deaf`` ones are not answered.

    From ``hangs_at`` on none is, until it wakes up. Commands run in the guest are in ``run`` and end with the
    status that ``statuses`` gives for their last word.
    """

    def __init__(
        self,
        path: Path,
        *,
        deaf: tuple[str, ...] = (),
        refuses: tuple[str, ...] = (),
        hangs_at: str | None = None,
        statuses: dict[str, int] | None = None,
    ) -> None:
        path.unlink(missing_ok=True)
        self.heard: list[str] = []
        self.frozen = False
        self.deaf = deaf
        self.refuses = refuses
        self.hangs_at = hangs_at
        self.hangs = False
        self.run: list[list[str]] = []
        self.statuses = statuses or {}
        self._server = socketserver.ThreadingUnixStreamServer(str(path), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wake(self) -> None:
        """Go on, beginning with what came while it hung."""
        self.frozen = self.hangs_at == "guest-fsfreeze-freeze"
        self.hangs_at, self.hangs = None, False

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a request, None if there is none."""
        command = request["execute"]
        self.heard.append(command)
        self.hangs = self.hangs or command == self.hangs_at
        if self.hangs or command in self.deaf:
            return None
        if command in self.refuses:
            return {"error": {"class": "GenericError", "desc": "the guest does not want to"}}
        if command == "guest-sync":
            return {"return": request["arguments"]["id"]}
        if command == "guest-exec":
            self.run.append([request["arguments"]["path"], *request["arguments"]["arg"]])
            return {"return": {"pid": len(self.run)}}
        if command == "guest-exec-status":
            word = self.run[request["arguments"]["pid"] - 1][-1]
            return {"return": {"exited": True, "exitcode": self.statuses.get(word, 0)}}
        self.frozen = command == "guest-fsfreeze-freeze"
        return {"return": 2}

    def _handler(self) -> type[socketserver.BaseRequestHandler]:
        agent = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                text = ""
                while data := self.request.recv(4096):
                    text += data.decode()
                    while text:
                        try:
                            request, end = json.JSONDecoder().raw_decode(text)
                        except ValueError:
                            break
                        text = text[end:].lstrip()
                        self.reply(request)

            def reply(self, request: dict[str, Any]) -> None:
                answer = agent.answer(request)
                if answer is not None:
                    self.request.sendall(json.dumps({**answer, "id": request["id"]}).encode() + b"\n")

        return Handler
