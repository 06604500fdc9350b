"""Calls of an OpenStack API: one request, a list with all its pages, and what may not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlsplit

from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter

from pumphouse.errors import http_status
from pumphouse.model import Json

P = ParamSpec("P")
T = TypeVar("T")


def call(adapter: Adapter, method: str, path: str, json: object = None, **kwargs: Any) -> Json:
    """Send one request and return its body; {} where there is none.

    Raises keystoneauth1.exceptions.HttpError, with the service's own message and request id.
    """
    response = adapter.request(path, method, json=json, raise_exc=False, **kwargs)
    if response.status_code >= 400:
        raise _http_error(response, method, path)
    body: Json = response.json() if response.content else {}
    return body


def get_all(adapter: Adapter, path: str, key: str, **params: Any) -> list[Json]:
    """Every item of a list call, all its pages.

    Services name the next page in `..._links` (Neutron, Cinder), `next` (Glance) or `links` (Keystone).
    Raises as `call` does.
    """
    items: list[Json] = []
    query: Mapping[str, Any] | None = params
    while query is not None:
        body = call(adapter, "GET", path, params=query)
        items += body[key]
        query = _next_page(body)
    return items


def or_none(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What a call returns; None when any of the clients answers that what it asks for does not exist (404)."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if http_status(error) == 404:
            return None
        raise


def _next_page(body: Json) -> Mapping[str, Any] | None:
    """The query of the next page; the rest of the link is left, because behind a proxy it may be wrong."""
    linked = [links for name, links in body.items() if name.endswith("_links")]
    hrefs = [link["href"] for links in linked for link in links if link["rel"] == "next"]
    link = next(iter(hrefs), None) or body.get("next") or (body.get("links") or {}).get("next")
    return parse_qs(urlsplit(link).query, keep_blank_values=True) if link else None


def _http_error(response: Any, method: str, path: str) -> Any:
    """The exception for an answer, with the message also where keystoneauth does not find it: Neutron's."""
    error: Any = exceptions.from_response(response, method, path)
    try:
        fault = next(iter(response.json().values()))
        message = fault["message"]
    except (ValueError, AttributeError, StopIteration, TypeError, KeyError):
        return error
    error.message = message
    error.args = (f"{message} (HTTP {response.status_code})",)
    return error
