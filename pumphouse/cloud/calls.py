"""Calls of an OpenStack API: one request, a list with all its pages, and what may not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from json import dumps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter
from keystoneauth1.session import Session
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from pumphouse.errors import CloudError, http_status
from pumphouse.model import Json

# How often a list is read that changes while it is read.
READINGS = 5

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
    """Every item of a list call, all its pages; read anew where they change meanwhile.

    Services name the next page in `..._links` (Neutron, Cinder), `next` (Glance) or `links` (Keystone).
    Raises as `call` does, and CloudError where a service keeps back the rest of a list.
    """
    anew = Retrying(
        retry=retry_if_exception_type(_ListChanged), stop=stop_after_attempt(READINGS), reraise=True
    )
    return anew(_all_pages, adapter, path, key, params)


def _all_pages(adapter: Adapter, path: str, key: str, params: Mapping[str, Any]) -> list[Json]:
    items: list[Json] = []
    query: Mapping[str, Any] | None = params
    while query is not None:
        body = call(adapter, "GET", path, params=query)
        items += body[key]
        query = next_page(body, path, query)
    return items


class _ListChanged(CloudError):
    """A page ends with what it was to begin after, as where Nova lists a server otherwise once it is scheduled."""


class WholeLists(Session):
    """Another session as clients see it that read no further than the first page of a list: keystoneclient."""

    def __init__(self, session: Session) -> None:
        super().__init__(session.auth, session=session.session)
        self._real = session

    def request(self, url: str, method: str, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; a list is answered with the items of all its pages."""
        first = self._real.request(url, method, **kwargs)
        if method != "GET" or not _is_page(first):
            return first
        body = page = first.json()
        query: Mapping[str, Any] | None = None
        while (query := next_page(page, url, query)) is not None:
            address = urlsplit(url)._replace(query=urlencode(query, doseq=True)).geturl()
            page = self._real.request(address, method, **kwargs).json()
            body = {key: [*listed, *page[key]] for key, listed in body.items() if isinstance(listed, list)}
        whole = requests.Response()
        whole.status_code, whole.headers, whole.url = first.status_code, first.headers, first.url
        whole.raw = BytesIO(dumps(body).encode())
        return whole


def _is_page(answer: requests.Response) -> bool:
    return answer.ok and '"truncated"' in answer.text and bool(answer.json().get("truncated"))


def or_none(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What a call returns; None when any of the clients answers that what it asks for does not exist (404)."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        if http_status(error) == 404:
            return None
        raise


def next_page(body: Json, path: str, asked: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The query of the page after one; the rest of the link is left, because behind a proxy it may be wrong.

    asked: the query of that one.

    Raises CloudError where there is more and no link leads to it, as in a Keystone with a list_limit; those that
    know pages of some lists only link others to themselves.
    """
    linked = [links for name, links in body.items() if name.endswith("_links")]
    hrefs = [link["href"] for links in linked for link in links if link["rel"] == "next"]
    link = next(iter(hrefs), None) or body.get("next") or (body.get("links") or {}).get("next")
    query = parse_qs(urlsplit(link).query, keep_blank_values=True) if link else None
    if (query and query == asked) or (query is None and body.get("truncated")):
        problem = _ListChanged if query else CloudError
        raise problem(
            f"a cloud keeps back the rest of a long list, that of {urlsplit(path).path}",
            "raise the list_limit of its Keystone, or take it away",
        )
    return query


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
