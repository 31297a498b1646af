"""The routes: each turns a request into a question to the service, and its answer into a body."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response

from storerec.pipeline.requests import RecommendRequest, ScoreRequest
from storerec.serving import limits
from storerec.serving.failures import documented
from storerec.serving.refusals import GoneError
from storerec.serving.schemas import (
    AddAnswerBody,
    AddBody,
    AddedItem,
    FoundItem,
    ItemBody,
    Neighbour,
    RecommendAnswerBody,
    RecommendBody,
    RecommendedItem,
    RemovedItem,
    ScoreAnswerBody,
    ScoreBody,
    ScoredItem,
    SearchAnswerBody,
    StatusBody,
)
from storerec.serving.service import Service
from storerec.serving.worker import NewItem

R = TypeVar("R")

ALL = documented(401, 408, 413, 421, 422, 429, 500, 503)
OF_BODY = ALL | documented(400)
OF_ITEM = ALL | documented(404)

router = APIRouter()


async def _service(request: Request) -> Service:
    return request.app.state.service


Served = Annotated[Service, Depends(_service)]


@router.post("/v1/recommend", summary="The most probable next items after a history", responses=OF_BODY)
async def recommend(body: RecommendBody, service: Served, request: Request) -> RecommendAnswerBody:
    """Recommend for one user. Requests of several users that come at the same time share a batch."""
    limits.check(body, service.config)
    asked = RecommendRequest(
        history=tuple(body.history),
        k=body.k,
        exclude=tuple(body.exclude),
        exclude_history=body.exclude_history,
        new_share=body.new_share,
        where={name: tuple(values) for name, values in body.where.items()},
    )
    answer = await while_wanted(request, service.recommend(asked))
    found = [
        RecommendedItem(item_id=one.item_id, title=one.title, score=one.score, codes=list(one.codes))
        for one in answer.items
    ]
    return RecommendAnswerBody(items=found, unknown=list(answer.unknown), fallback=answer.fallback)


@router.post("/v1/score", summary="Scores of given items after a history", responses=OF_BODY)
async def score(body: ScoreBody, service: Served, request: Request) -> ScoreAnswerBody:
    """Score candidates for one user, best first."""
    limits.check(body, service.config)
    asked = ScoreRequest(history=tuple(body.history), candidates=tuple(body.candidates))
    answer = await while_wanted(request, service.score(asked))
    found = [ScoredItem(item_id=one.item_id, title=one.title, score=one.score) for one in answer.items]
    return ScoreAnswerBody(items=found, unknown=list(answer.unknown), scored_by=answer.scored_by)


@router.post("/v1/items", summary="Add items, from their text alone", responses=OF_BODY)
async def add(body: AddBody, service: Served, request: Request) -> AddAnswerBody:
    """Make items recommendable at once; they are on disk before this is answered. All of them are added or none."""
    limits.check(body, service.config)
    new = [NewItem(one.item_id, one.text) for one in body.items]
    done = await while_wanted(request, service.add(new))
    return AddAnswerBody(
        items=[AddedItem(item_id=one.item_id, status=one.status, codes=list(one.codes)) for one in done]
    )


@router.get("/v1/items/{item_id:path}", summary="An item", responses=OF_ITEM)
async def item(
    item_id: str, service: Served, request: Request, neighbours: Annotated[int, Query(ge=0, le=100)] = 5
) -> ItemBody:
    """An item's text, its codes, and the items nearest to it by codes."""
    found = await while_wanted(request, service.explain(item_id, neighbours))
    near = [Neighbour(item_id=one, title=title, distance=distance) for one, title, distance in found.neighbours]
    return ItemBody(item_id=found.item_id, text=found.text, codes=list(found.codes), neighbours=near)


@router.delete("/v1/items/{item_id:path}", summary="Take an item out of all lists", responses=OF_ITEM)
async def remove(item_id: str, service: Served, request: Request) -> RemovedItem:
    """Never recommend an item again, until it is added again. It still counts where histories hold it."""
    done = await while_wanted(request, service.remove(item_id))
    return RemovedItem(item_id=done.item_id, status=done.status)


@router.get("/v1/search", summary="Items by title", responses=ALL)
async def search(
    service: Served,
    request: Request,
    q: Annotated[str, Query(min_length=1, max_length=200)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> SearchAnswerBody:
    """Items whose titles contain a text, in whatever case."""
    found = await while_wanted(request, service.search(q, limit))
    return SearchAnswerBody(items=[FoundItem(item_id=one, title=title) for one, title in found])


@router.get("/healthz", summary="Whether the process runs", openapi_extra={"security": []})
async def health() -> StatusBody:
    """Answered as long as the process runs, whatever the model does."""
    return StatusBody(status="ok")


@router.get(
    "/readyz",
    summary="Whether requests are answered",
    responses={503: {"model": StatusBody, "description": "Not yet, or no more."}},
    openapi_extra={"security": []},
)
async def ready(service: Served, response: Response) -> StatusBody:
    """Status 503 while the model is being loaded and when the service stops."""
    if service.ready:
        return StatusBody(status="ok")
    response.status_code = 503
    return StatusBody(status="not ready")


@router.get(
    "/metrics",
    summary="Counters and histograms for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented(401, 408, 413, 421, 429)},
)
async def metrics(service: Served) -> Response:
    """Latencies, batch sizes, the queue's depth, and hits of the cache, in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=service.metrics.content_type)


async def while_wanted(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """Do ``work``, and give it up when its client goes away: what nobody waits for must not keep others waiting."""
    asked, gone = asyncio.create_task(work), asyncio.create_task(_departure(request))
    try:
        await asyncio.wait((asked, gone), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise GoneError("the client has gone")
        return asked.result()
    finally:
        asked.cancel()
        gone.cancel()


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
