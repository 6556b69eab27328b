"""Routes: literal paths, parameters, methods, and what is told where there is none."""

import pytest

from fastws.errors import HandshakeError
from fastws.http.router import WEBSOCKET, Match, Router


def handler() -> None: ...


def other() -> None: ...


def routes(*paths: str, method: str = "GET") -> Router:
    router = Router()
    for path in paths:
        router.add(method, path, handler)
    return router


def refused(router: Router, method: str, path: str) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        router.find(method, path)
    return caught.value


@pytest.mark.parametrize(
    ("route", "path", "parameters"),
    [
        ("/", "/", {}),
        ("/a", "/a", {}),
        ("/a", "/a/", {}),
        ("/a/", "/a", {}),
        ("/a", "/a//", None),
        ("/a", "/A", None),
        ("/a", "/", None),
        ("/a", "", None),
        ("/a.c", "/abc", None),
        ("/{x}", "/b", {"x": "b"}),
        ("/{x}", "/b/", {"x": "b"}),
        ("/{x}", "/", None),
        ("/{x}", "/b/c", None),
        ("/{x}", "/b\n", {"x": "b\n"}),
        ("/{x}", "/é {x}", {"x": "é {x}"}),
        ("/a/{x}/c/{y}", "/a/1/c/2", {"x": "1", "y": "2"}),
        ("/a.{x}", "/a.b", {"x": "b"}),
        ("/a.{x}", "/acb", None),
        ("/{x}-{y}", "/1-2-3", {"x": "1-2", "y": "3"}),
        ("/{x}{y}", "/ab", {"x": "a", "y": "b"}),
    ],
)
def test_a_path_belongs_to_a_route_or_not(
    route: str, path: str, parameters: dict[str, str] | None
) -> None:
    expected = None if parameters is None else Match(handler, parameters)
    assert routes(route).find("GET", path) == expected


def test_literal_paths_come_first_and_then_the_patterns_in_order() -> None:
    router = routes("/{x}", "/a{y}")
    router.add("GET", "/a", other)
    assert router.find("GET", "/a") == Match(other, {})
    assert router.find("GET", "/ab") == Match(handler, {"x": "ab"})


def test_a_pattern_answers_what_the_literal_path_has_no_method_for() -> None:
    router = routes("/a")
    router.add("POST", "/{x}", other)
    assert router.find("POST", "/a") == Match(other, {"x": "a"})


def test_head_is_a_get() -> None:
    assert routes("/a").find("HEAD", "/a") == Match(handler, {})


def test_another_method_is_405_and_told_the_methods_once_each() -> None:
    router = routes("/a", "/{x}")
    router.add("POST", "/a", handler)
    router.add("DELETE", "/{x}", handler)
    router.add(WEBSOCKET, "/a", handler)
    error = refused(router, "PUT", "/a")
    assert (error.status, error.headers) == (405, (("Allow", "GET, POST, DELETE, HEAD"),))
    assert refused(routes("/a", method="POST"), "GET", "/a").headers == (("Allow", "POST"),)


def test_a_websocket_route_is_for_upgrades_alone() -> None:
    router = routes("/a", method=WEBSOCKET)
    assert router.find(WEBSOCKET, "/a") == Match(handler, {})
    error = refused(router, "GET", "/a")
    assert error.status == 426
    assert ("Upgrade", "websocket") in error.headers
    assert router.find(WEBSOCKET, "/b") is None
    assert routes("/a").find(WEBSOCKET, "/a") is None


def test_it_says_which_kinds_of_routes_there_are() -> None:
    none, http, websocket = Router(), routes("/{x}"), routes("/a", method=WEBSOCKET)
    assert [each.has_http for each in (none, http, websocket)] == [False, True, False]
    assert [each.has(WEBSOCKET) for each in (none, http, websocket)] == [False, False, True]
    assert http.has("GET")
    assert not http.has("POST")


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("get", "/", "in capitals"),
        ("HEAD", "/", "HEAD is a GET"),
        ("GET", "a", "begins with a slash"),
        ("GET", "", "begins with a slash"),
        ("GET", "/{}", "a name of its own"),
        ("GET", "/{1}", "a name of its own"),
        ("GET", "/{x}/{x}", "a name of its own"),
        ("GET", "/{x", "has no counterpart"),
        ("GET", "/x}", "has no counterpart"),
        ("GET", "/{x}}", "has no counterpart"),
        ("GET", "/there", "a route for GET /there already"),
        ("GET", "/there/", "a route for GET /there/ already"),
        ("GET", "/p/{x}/", "a route for GET /p/{x}/ already"),
    ],
)
def test_a_route_that_cannot_be_is_refused_and_changes_nothing(
    method: str, path: str, said: str
) -> None:
    router = routes("/there", "/p/{x}")
    with pytest.raises(ValueError, match=said):
        router.add(method, path, other)
    assert router.find("GET", "/there") == Match(handler, {})
    assert router.find("GET", "/p/1") == Match(handler, {"x": "1"})
    assert router.find("GET", "/") is None
