"""Scores shards at an endpoint: so many photos in flight, results in the order of the shards."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dataset_builders.errors import ConfigError, PhotoError
from launch.predict.endpoint.client import EndpointClient, RefusedError
from launch.predict.endpoint.job import EndpointJob, is_loopback
from launch.predict.endpoint.messages import PhotoFitter, data_url
from launch.predict.endpoint.readings import NoAnswerError, Read, open_reading
from launch.predict.parts import ShardScores
from launch.predict.rows import PhotoRow, Shard
from launch.predict.scorer import off_label_mass
from launch.predict.views import average_views, view_photos
from launch.predict.worker import ShardResult, read_photo

__all__ = ["score_at_endpoint"]

SHARDS_AHEAD = 2  # begun while the first one's last photos are waited for
TEST_SIDE = 224


def score_at_endpoint(job: EndpointJob, shards: Sequence[Shard]) -> Iterator[ShardResult]:
    """Score the shards at the job's endpoint, in their order.

    A photo that cannot be read, or that the server refuses while it answers others of the shard, becomes a failed row.

    Raises:
        ConfigError: Nobody answers, the server has no such model, or its answers hold no usable log-probabilities;
            a grey test photo finds that out before any other photo is sent.
        StepError: The server stopped answering, or was too busy for about a minute.
    """
    if not is_loopback(job.url):
        print(f"predict: photos are sent to {job.url}", file=sys.stderr)
    with asyncio.Runner() as runner:
        client = EndpointClient(job.url, connections=job.in_flight, api_key=job.api_key)
        runner.run(client.greet())  # before LLaMA-Factory is loaded, which takes seconds
        fit = PhotoFitter(job.template, job.min_pixels, job.max_pixels)
        results = _score(client, fit, job, shards)
        while (result := runner.run(_next(results))) is not None:
            yield result


async def _next(results: AsyncIterator[ShardResult]) -> ShardResult | None:
    return await anext(results, None)


async def _score(
    client: EndpointClient, fit: PhotoFitter, job: EndpointJob, shards: Sequence[Shard]
) -> AsyncIterator[ShardResult]:
    async with client:
        reading = await open_reading(client, job)
        await _try(reading, fit, job)
        asker = _Asker(job, fit, reading)
        begun: deque[tuple[Shard, asyncio.Future[list[_Answered]]]] = deque()
        try:
            for shard in shards:
                begun.append((shard, asyncio.gather(*map(asker.ask, shard.rows))))
                if len(begun) > SHARDS_AHEAD:
                    yield _result(begun[0][0], await begun[0][1], len(job.answers))
                    begun.popleft()
            while begun:
                yield _result(begun[0][0], await begun[0][1], len(job.answers))
                begun.popleft()
        finally:
            for _, answers in begun:
                answers.cancel()
            await asyncio.gather(*(answers for _, answers in begun), return_exceptions=True)
    if reading.bounded:
        print(
            f"predict: {reading.bounded} log-probabilities are upper bounds, since the answer was not among the "
            f"{job.top_logprobs} most probable tokens; the largest is a probability of {reading.largest_bound:.2g}",
            file=sys.stderr,
        )


async def _try(reading: Read, fit: PhotoFitter, job: EndpointJob) -> None:
    """Ask about a grey square: what is wrong with the server or its options is known before a photo is sent."""
    from PIL import Image

    grey = data_url(fit(Image.new("RGB", (TEST_SIDE, TEST_SIDE), (128, 128, 128))))
    try:
        await reading.logps(grey)
    except NoAnswerError:
        pass  # no photo of the task
    except RefusedError as error:
        raise ConfigError(
            f"{error}. So it answers to a grey test photo as {job.model!r}: the model must take photos, and the server "
            "must give log-probabilities (--top-logprobs 5 asks for fewer)"
        ) from error


@dataclass(frozen=True)
class _Answered:
    """What became of one photo: log-probabilities [K], or why there are none, and whether the server refused it."""

    logp_K: np.ndarray | None
    error: str = ""
    refused: bool = False


class _Asker:
    """Asks about photos, a bounded number at a time."""

    def __init__(self, job: EndpointJob, fit: PhotoFitter, reading: Read) -> None:
        self._job, self._fit, self._reading = job, fit, reading
        self._places = asyncio.Semaphore(job.in_flight)

    async def ask(self, row: PhotoRow) -> _Answered:
        if row.problem:
            return _Answered(None, row.problem)
        async with self._places:
            try:
                urls = await asyncio.to_thread(self._urls, row.image)
                views_VBK = np.stack([(await self._reading.logps(url))[None] for url in urls])
            except RefusedError as error:
                return _Answered(None, f"refused by the endpoint: {error}", refused=True)
            except PhotoError as error:
                return _Answered(None, str(error))
        return _Answered(average_views(views_VBK)[0])

    def _urls(self, path: str) -> list[str]:
        return [data_url(self._fit(view)) for (view,) in view_photos(self._job.views, [read_photo(path)])]


def _result(shard: Shard, answers: Sequence[_Answered], count: int) -> ShardResult:
    asked = [answer for answer in answers if answer.refused or answer.logp_K is not None]
    # Several, and all of them: then it is not the photos. One alone says no more than about itself.
    if len(asked) > 1 and all(answer.refused for answer in asked):
        error = f"the endpoint refused all {len(asked)} photos; the last one: {asked[-1].error}"
        return ShardResult(shard, None, error)
    logp_RK = np.full((len(answers), count), np.nan)
    for row, answer in enumerate(answers):
        if answer.logp_K is not None:
            logp_RK[row] = answer.logp_K
    return ShardResult(shard, ShardScores(logp_RK, off_label_mass(logp_RK), tuple(answer.error for answer in answers)))
