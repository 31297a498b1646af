"""The web page: its files, and what it asks for beyond the items' routes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from storerec.evaluation import Evaluation, SystemResult
from storerec.evaluation.evaluation import Metrics
from storerec.pipeline.why import Branch, Why
from storerec.serving import limits
from storerec.serving.figures import read_figures
from storerec.serving.files import PageFile
from storerec.serving.insight import About
from storerec.serving.page_schemas import (
    AboutAnswerBody,
    AttributeBody,
    BranchBody,
    CodesBody,
    EvaluationBody,
    FiguresBody,
    FitBody,
    IntervalBody,
    MapAnswerBody,
    PointBody,
    PositionBody,
    SliceBody,
    StepBody,
    WhyAnswerBody,
    WhyBody,
)
from storerec.serving.routes import ALL, OF_BODY, OF_ITEM, Served, while_wanted
from storerec.serving.schemas import FoundItem, ItemId, Word

_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, and asked for again by its ETag: a new version is seen at once
}

insights = APIRouter()


def page_router(files: Mapping[str, PageFile]) -> APIRouter:
    """Routes of the page's files, by their paths; nothing else is ever read."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    @router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    async def file(request: Request) -> Response:
        found = files.get(request.scope["path"])
        if found is None:
            raise HTTPException(404)
        headers = _HEADERS | {"ETag": found.etag}
        if found.etag in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        return Response(found.content, 200, headers, media_type=found.media_type)

    return router


@insights.post("/v1/why", summary="Why an item is recommended", responses=OF_BODY | OF_ITEM)
async def why(body: WhyBody, service: Served, request: Request) -> WhyAnswerBody:
    """The item's path through the tree of codes, with the probability of each code and of the others there."""
    limits.check(body, service.config)
    found: Why = await while_wanted(request, service.why(tuple(body.history), body.item_id, body.others))
    steps = [
        StepBody(chosen=_branch(step.chosen), others=[_branch(one) for one in step.others]) for step in found.steps
    ]
    return WhyAnswerBody(
        item_id=found.item_id,
        title=found.title,
        steps=steps,
        share=found.share,
        alone=found.alone,
        weight=found.weight,
        score=found.score,
    )


@insights.get("/v1/map", summary="Items in two dimensions, by their codes", responses=ALL)
async def map_of(
    service: Served,
    request: Request,
    attribute: Annotated[Word | None, Query(description="Attribute whose value is told of each item.")] = None,
    limit: Annotated[int, Query(ge=1, le=5000, description="Most items; of more, an even sample is given.")] = 3000,
    also: Annotated[list[ItemId] | None, Query(max_length=100, description="Items that are given in any case.")] = None,
) -> MapAnswerBody:
    """The two directions in which the items' codes differ most. Removed items are left out."""
    found = await while_wanted(request, service.map(attribute, limit, tuple(also or ())))
    points = [
        PointBody(item_id=one.item_id, title=one.title, x=one.x, y=one.y, codes=list(one.codes), value=one.value)
        for one in found.points
    ]
    return MapAnswerBody(items=found.items, points=points)


@insights.get("/v1/about", summary="What is served: catalogue, codes, evaluation", responses=ALL)
async def about(service: Served, request: Request) -> AboutAnswerBody:
    """Size and attributes of the catalogue, use of the codes, and what was measured of the run."""
    found: About = await while_wanted(request, service.about())
    measured = await asyncio.to_thread(read_figures, service.folder)
    fit = found.fit
    return AboutAnswerBody(
        items=found.items,
        removed=found.removed,
        max_k=service.config.max_k,
        attributes=[
            AttributeBody(name=one.name, length=one.length, values=list(one.values)) for one in found.attributes
        ],
        title_attribute=found.title_attribute,
        examples=[FoundItem(item_id=one, title=title) for one, title in found.examples],
        codes=_codes(found),
        fit=fit and FitBody(items=fit.items, far=list(fit.far), refit=fit.refit, verdict=fit.verdict),
        evaluation=None if measured is None else _evaluation(measured),
        has_scorer=found.has_scorer,
        scored_by=found.scored_by,
    )


def _branch(branch: Branch) -> BranchBody:
    return BranchBody(code=branch.code, probability=branch.probability, items=branch.items, titles=list(branch.titles))


def _codes(found: About) -> CodesBody:
    report = found.report
    return CodesBody(
        items=report.items,
        tuples=report.tuples,
        colliding_share=report.colliding_share,
        largest_bucket=report.largest_bucket,
        positions=[
            PositionBody(size=one.size, used=one.used, perplexity=one.perplexity, counts=list(counts))
            for one, counts in zip(report.positions, found.usage, strict=True)
        ],
    )


def _evaluation(measured: Evaluation) -> EvaluationBody:
    return EvaluationBody(
        users=measured.users,
        items=measured.n_items,
        protocol=measured.protocol,
        exclude_history=measured.exclude_history,
        confidence=measured.confidence,
        systems=[_figures(name, result) for name, result in measured.systems.items()],
    )


def _figures(system: str, result: SystemResult) -> FiguresBody:
    slices = [
        SliceBody(name=name, users=part.n, metrics=_intervals(part.item or {})) for name, part in result.slices.items()
    ]
    return FiguresBody(system=system, metrics=_intervals(result.item_level), coverage=result.coverage, slices=slices)


def _intervals(metrics: Metrics) -> dict[str, IntervalBody]:
    return {name: IntervalBody(value=one.value, low=one.low, high=one.high) for name, one in metrics.items()}
