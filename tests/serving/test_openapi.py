"""The OpenAPI document: what it says, and whether the service does what it says."""

import shutil

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.serving.asynchronous import asynchronous
from tests.serving.program import program
from tests.serving.talk import talking

OPERATIONS = {
    *("POST /v1/recommend", "POST /v1/score", "POST /v1/items", "GET /v1/items/{item_id}"),
    *("DELETE /v1/items/{item_id}", "GET /v1/search", "GET /healthz", "GET /readyz", "GET /metrics"),
    *("POST /v1/why", "GET /v1/map", "GET /v1/about"),
}

NEVER_WRONG = {"DELETE /v1/items/{item_id}", "GET /v1/about", "GET /healthz", "GET /readyz", "GET /metrics"}
"""What takes nothing, or any text."""


@asynchronous
async def test_the_document_is_whole_and_tells_the_limits(trained):
    async with talking(trained, max_history=17, max_k=19, max_items=3) as client:
        document = (await client.get("/openapi.json")).json()
    operations = [
        (method.upper(), path, one) for path, all_ in document["paths"].items() for method, one in all_.items()
    ]
    assert {f"{method} {path}" for method, path, _ in operations} == OPERATIONS
    models = document["components"]["schemas"]
    assert models["RecommendBody"]["properties"]["history"]["maxItems"] == 17
    assert models["RecommendBody"]["properties"]["k"]["maximum"] == 19
    assert models["AddBody"]["properties"]["items"]["maxItems"] == 3
    assert "HTTPValidationError" not in models  # the shape of errors is ours
    for model in models.values():
        jsonschema_rs.validator_for(model | {"components": document["components"]})
        assert not [
            name for name, one in model.get("properties", {}).items() if not {"description", "$ref"} & one.keys()
        ]
    for _, path, one in operations:
        assert one["summary"]
        if path.startswith("/v1"):
            assert {"200", "401", "413", "422", "429", "503"} <= one["responses"].keys()
    assert "security" not in document
    async with talking(trained, api_key="0123456789abcdef") as client:
        document = (await client.get("/openapi.json", headers={"X-API-Key": "0123456789abcdef"})).json()
    assert document["security"] == [{"bearer": []}, {"header": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []


@pytest.fixture(scope="module")
def url(trained, tmp_path_factory):
    place = tmp_path_factory.mktemp("fuzzed") / "bundle"
    shutil.copytree(trained, place)
    with program(place, "--max-wait-ms", 0) as running:
        yield running.url


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_whatever_is_sent_the_service_answers_as_it_says(url, mode):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        def answers(case):
            response = case.call(base_url=url)
            tried.add(case.operation.label)
            checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
            case.validate_response(response, checks=checks)

        if mode is GenerationMode.POSITIVE or operation.label not in NEVER_WRONG:
            answers()
    assert tried == OPERATIONS - (NEVER_WRONG if mode is GenerationMode.NEGATIVE else set())
    assert httpx.get(f"{url}/readyz").status_code == 200
