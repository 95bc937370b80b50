"""The OpenAPI document is one, and says what is answered."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service import errors
from service.api.openapi import refusals
from service.api.problems import problem_of
from tests.documents import damaged, openapi, problems_of_answer


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and description of each."""
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_it_is_an_openapi_document() -> None:
    """It validates as OpenAPI 3.1, and would not if it were damaged."""
    assert [error.message for error in OpenAPIV31SpecValidator(openapi()).iter_errors()] == []
    wrong = deepcopy(openapi())
    wrong["paths"]["/v1/predict"]["post"]["responses"]["200"].pop("description")
    assert list(OpenAPIV31SpecValidator(wrong).iter_errors())


def examples(content: dict[str, Any]) -> list[Any]:
    return [example["value"] for example in content.get("examples", {}).values()]


def test_examples() -> None:
    """Every example of an answer fits its schema, and is not one any more when it is damaged."""
    shown = [
        (value, path, method, int(status), kind)
        for path, method, operation in operations()
        for status, answer in operation["responses"].items()
        for kind, content in answer.get("content", {}).items()
        for value in examples(content)
    ]
    assert len(shown) > 50
    for value, *where in shown:
        assert problems_of_answer(value, *where) == []
        for how, wrong in damaged(value):
            seen = problems_of_answer(wrong, *where)
            assert seen or how.removeprefix("without ") in {"index", "reason", "repeated"}, (how, value)


def test_problems() -> None:
    """Each answer that is no success shows its problems, with its own status and codes there are."""
    for _, _, operation in operations():
        assert {"400", "408", "429", "431", "500", "503"} <= set(operation["responses"])
    answers = [one for _, _, operation in operations() for one in operation["responses"].items()]
    for status, answer in answers:
        if status == "200":
            continue
        shown = examples(answer["content"]["application/problem+json"])
        assert shown
        for problem in shown:
            assert problem["status"] == int(status)
            assert problem["code"] in errors.codes()
            assert f"`{problem['code']}`" in answer["description"]
        assert ("Retry-After" in answer["headers"]) is any(problem["retryable"] for problem in shown)


def test_what_a_prediction_may_answer() -> None:
    """All of its statuses, and who may not enter."""
    responses = openapi()["paths"]["/v1/predict"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "403", "408", "413", "422", "429", "431", "500", "503", "504"}


def test_answers_have_a_schema() -> None:
    """Each success says what it holds."""
    for _, _, operation in operations():
        for content in operation["responses"]["200"]["content"].values():
            assert content["schema"]
    for schema in openapi()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_keys() -> None:
    """What asks for a key says so, and nothing else does."""
    asking = {(path, method) for path, method, operation in operations() if "security" in operation}
    assert asking == {(path, method) for path, method, _ in operations() if path.startswith("/v1/")}
    assert openapi()["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_refusals_of_one_status_stand_together() -> None:
    """Errors that share a status share its answer: both meanings, an example of each, told as the service tells it."""
    busy = errors.Overloaded("full")
    answer = refusals(busy, errors.GoingAway("closing"))[503]
    shown = answer["content"]["application/problem+json"]["examples"]
    assert list(shown) == ["overloaded", "going_away", "too_many_connections"]
    assert shown["overloaded"]["value"]["detail"] == problem_of(busy).detail
    assert answer["description"].count("\n\n") == 2
    assert json.dumps(answer)
