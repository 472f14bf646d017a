"""The app: Gradio's page with two tabs, our own routes beside it, and the server.

The queue does not go through Gradio's events. They are queued and answer when they are done, so that a key that is
pressed meanwhile would decide about a photo that nobody has seen; and a decision must be on the disk before the page
goes on. The script asks routes of the same server instead. The single photo does go through them.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataset_builders.errors import ConfigError, RiskFuseError
from launch.report.run_files import RunFiles
from launch.review.one_photo import OnePhoto
from launch.review.queue import ReviewQueue
from launch.review.render import render
from launch.review.service import ReviewService, shown_jpeg
from launch.review.store import NOTE_LENGTH, DecisionStore

if TYPE_CHECKING:
    from fastapi import FastAPI
    from gradio import Blocks

__all__ = ["build_app", "serve"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
UPLOAD_LIMIT = "100mb"


def build_app(files: RunFiles, queue: ReviewQueue, store: DecisionStore, *, reviewer: str, host: str) -> FastAPI:
    """Build the app.

    Args:
        files: The run.
        queue: Its photos to review.
        store: Keeps the decisions.
        reviewer: Name that the page begins with; may be empty.
        host: Address that it will listen to; on a loopback address no other host's name is answered.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    from launch.review.lockdown import Lockdown

    app = FastAPI(title="RiskFuse review", docs_url=None, redoc_url=None, openapi_url=None)
    app.router.routes += [
        *ReviewService(files.card, queue, store).routes(),
        Route("/review/script.js", _file("script.js.jinja", "text/javascript")),
        Route("/review/style.css", _file("style.css.jinja", "text/css")),
        Route("/gradio_api/upload_progress", _no_progress),
    ]
    app = gradio.mount_gradio_app(
        app, _blocks(files, queue, reviewer), path="/", show_api=False, ssr_mode=False, max_file_size=UPLOAD_LIMIT
    )
    app.add_middleware(Lockdown)
    if host in LOOPBACK:  # a page of another host whose name was made to point here gets nothing (DNS rebinding)
        # Of an IPv6 address in brackets, Starlette looks at what stands before its first colon.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "["], www_redirect=False)
    return app


def serve(
    files: RunFiles,
    queue: ReviewQueue,
    store: DecisionStore,
    *,
    reviewer: str,
    host: str,
    port: int,
    browser: bool,
) -> None:
    """Serve the app until it is interrupted.

    Args:
        files: The run.
        queue: Its photos to review.
        store: Keeps the decisions.
        reviewer: Name that the page begins with; may be empty.
        host: Address to listen to.
        port: Port; 0 takes a free one.
        browser: Open the page in the system's browser.

    Raises:
        ConfigError: The address is taken or not of this machine.
    """
    listener = _listen(host, port)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that uploads are removed then too
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"
    with listener, tempfile.TemporaryDirectory(prefix="riskfuse-review-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # photos that are uploaded go when the app ends
        import uvicorn

        app = build_app(files, queue, store, reviewer=reviewer, host=host)
        print(f"{len(queue.photos)} photos to review; decisions go to {store.directory}")
        print(f"open {address} (Ctrl-C ends it)", flush=True)
        if host not in LOOPBACK:
            print(f"everybody who reaches {host} can see the photos and decide", file=sys.stderr)
        if browser:
            threading.Timer(1.0, webbrowser.open, (address,)).start()
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen to {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from None
    listener.listen()
    return listener


def _file(template: str, media_type: str) -> Any:
    from starlette.responses import Response

    text = render(template)

    def answer(request: Any) -> Response:
        return Response(text, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return answer


def _no_progress(request: Any) -> Any:
    """Gradio's own answer is a 404, which the page complains of, when a photo is there before its progress is asked."""
    from starlette.responses import Response

    return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _blocks(files: RunFiles, queue: ReviewQueue, reviewer: str) -> Blocks:
    import gradio

    one = OnePhoto(files)

    def score(path: str | None) -> str:
        return "" if path is None else _scored(files, one, Path(path))

    head = '<link rel="stylesheet" href="review/style.css"><script src="review/script.js" defer></script>'
    theme = gradio.themes.Base(font=FONTS[0], font_mono=FONTS[1])
    with gradio.Blocks(title=f"{files.name}: review 复核", head=head, theme=theme, analytics_enabled=False) as blocks:
        gradio.HTML(render("top.html.jinja", files=files, card=files.card))
        gradio.HTML(
            render(
                "queue.html.jinja", card=files.card, total=len(queue.photos), reviewer=reviewer, note_length=NOTE_LENGTH
            )
        )
        with gradio.Column(elem_id="rf-one"):
            gradio.HTML(render("intro.html.jinja"))
            photo = gradio.File(label="Photo 照片", file_types=["image"], type="filepath", elem_id="rf-upload")
            result = gradio.HTML(elem_id="rf-scored")
        photo.change(score, photo, result, api_name=False, concurrency_limit=1, show_progress="minimal")
    return blocks


def _scored(files: RunFiles, one: OnePhoto, path: Path) -> str:
    """What the models say about a photo, or why they cannot, as markup."""
    try:
        found = one.score(path)
    except RiskFuseError as error:
        return render("scored.html.jinja", card=files.card, problem=str(error))
    preview = "data:image/jpeg;base64," + base64.b64encode(shown_jpeg(found.image)).decode("ascii")
    return render(
        "scored.html.jinja",
        card=files.card,
        problem="",
        opinion=found.opinion,
        heat_maps=found.heat_maps,
        preview=preview,
        name=path.name,
    )
