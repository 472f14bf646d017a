"""What the page asks the server for: photos of the queue, what the models say about them, and decisions to keep."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dataset_builders.errors import ConfigError, PhotoError
from dataset_builders.task_card import TaskCard
from launch.review.queue import QueuedPhoto, ReviewQueue
from launch.review.render import render
from launch.review.store import NOTE_LENGTH, Decision, DecisionStore, clean_reviewer, read_decisions

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

__all__ = ["ReviewService", "shown_jpeg"]

SHOWN_SIDE, SHOWN_QUALITY = 1600, 90


class _Wish(BaseModel):
    """What the page wants to be kept; ``sample_id`` too, for the queue may have changed since it loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reviewer: str
    index: int
    sample_id: str
    label: str | None
    note: Annotated[str, Field(max_length=NOTE_LENGTH)] = ""


class ReviewService:
    """Answers the page's requests.

    Args:
        card: Knows the labels.
        queue: The photos; no other is ever served.
        store: Keeps the decisions.
    """

    def __init__(self, card: TaskCard, queue: ReviewQueue, store: DecisionStore) -> None:
        self._card, self._queue, self._store = card, queue, store
        self._index = {photo.sample_id: index for index, photo in enumerate(queue.photos)}

    def routes(self) -> list[BaseRoute]:
        """Routes below ``/review``."""
        from starlette.routing import Route

        return [
            Route("/review/decisions", self.decisions),
            Route("/review/item/{index:int}", self.item),
            Route("/review/photo/{index:int}", self.photo),
            Route("/review/decide", self.decide, methods=["POST"]),
        ]

    def decisions(self, request: Request) -> Response:
        """What a reviewer decided so far: ``[index, label, note]`` by photo, in the order of the decisions."""
        try:
            reviewer = clean_reviewer(request.query_params.get("reviewer", ""))
        except ConfigError as error:
            return _json({"error": str(error)}, 422)
        found = read_decisions(self._store.directory, reviewer)
        rows = [
            [self._index[key], decision.label if decision.label in self._card.label_ids else None, decision.note]
            for key, decision in found.last.items()
            if key in self._index
        ]
        return _json({"reviewer": reviewer, "decisions": rows, "warning": found.warning})

    def item(self, request: Request) -> Response:
        """One photo of the queue: its name, the decided label and, as markup, what the models say."""
        index, photo = self._photo(request)
        if photo is None:
            return _json({"error": "no such photo in the queue"}, 404)
        return _json(
            {
                "sample_id": photo.sample_id,
                "decided": photo.opinion.decided,
                "photo": f"review/photo/{index}" if photo.image is not None else None,
                "opinion": render("opinion.html.jinja", card=self._card, opinion=photo.opinion),
            }
        )

    def photo(self, request: Request) -> Response:
        """The photo as a JPEG: what cannot be decoded as a photo is not served."""
        from starlette.responses import Response

        _, photo = self._photo(request)
        if photo is None or photo.image is None:
            return _json({"error": "no such photo in the queue"}, 404)
        from launch.predict.worker import read_photo

        try:
            jpeg = shown_jpeg(read_photo(str(photo.image)))
        except PhotoError as error:
            return _json({"error": str(error)}, 404)
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def decide(self, request: Request) -> Response:
        """Keep a decision; it is on the disk when the answer comes."""
        from starlette.concurrency import run_in_threadpool

        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return _json({"error": "the request comes from another page"}, 403)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _json({"error": "expected application/json"}, 415)
        try:
            wish = _Wish.model_validate_json(await request.body())
        except ValidationError as error:
            return _json({"error": "; ".join(item["msg"] for item in error.errors())}, 422)
        status, answer = await run_in_threadpool(self._keep, wish)
        return _json(answer, status)

    def _keep(self, wish: _Wish) -> tuple[int, dict[str, Any]]:
        if wish.label is not None and wish.label not in self._card.label_ids:
            return 422, {"error": f"the task card has no label {wish.label!r}"}
        photos = self._queue.photos
        if not 0 <= wish.index < len(photos) or photos[wish.index].sample_id != wish.sample_id:
            return 409, {"error": "the queue has changed since this page was loaded; reload it"}
        try:
            reviewer = clean_reviewer(wish.reviewer)
            decision = Decision(
                sample_id=wish.sample_id,
                label=wish.label,
                note=wish.note,
                decided=photos[wish.index].opinion.decided,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            self._store.append(reviewer, decision)
        except ConfigError as error:
            return 422, {"error": str(error)}
        except OSError as error:
            return 507, {"error": f"{self._store.directory}: {error.strerror}"}
        return 200, {"saved": True}

    def _photo(self, request: Request) -> tuple[int, QueuedPhoto | None]:
        index = request.path_params["index"]
        return index, self._queue.photos[index] if index < len(self._queue.photos) else None


def shown_jpeg(image: Any) -> bytes:
    """An RGB PIL image as a JPEG of at most 1600 pixels a side."""
    from PIL import Image

    small = image.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=SHOWN_QUALITY)
    return buffer.getvalue()


def _json(value: Any, status: int = 200) -> Response:
    from starlette.responses import Response

    text = json.dumps(value, ensure_ascii=False)
    return Response(text, status, media_type="application/json", headers={"Cache-Control": "no-store"})
