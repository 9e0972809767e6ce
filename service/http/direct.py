"""Routes that FastAPI describes in OpenAPI, and whose functions are called without its help.

For each request FastAPI finds out anew what a function depends on, and keeps three stacks of what to close
after it: that took twice the CPU time of all the rest that a request costs beside its photo. The way to the
route, through Starlette's router and its handling of errors, took as long as reading the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.admission import admitted
from service.errors import NotReady
from service.http.protocol import CALLER


class DirectRoute(APIRoute):
    """Calls its function with the request alone, once it is admitted; its dependencies only describe it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; what is raised is for the application's handlers.

        Raises:
            Unauthorized, RateLimited, TooManyRequests: the request is not let in.
            NotReady: our own server, which cancels none before it stops, waits for it no longer.
        """
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # 405
            return
        request = Request(scope, receive, send)
        with admitted(request):
            try:
                with request.app.state.uploads.hold() as request.state.body:
                    response = await self.endpoint(request)
            except asyncio.CancelledError as cut:
                if CALLER not in scope.get("extensions", {}):
                    raise  # another server, Ray's for instance, means that its caller has left
                raise NotReady(
                    "The service stopped before this was done. Send it to another one, or again in a moment."
                ) from cut
            await response(scope, receive, send)


class Shortcut:
    """Middleware, the inner one of all: takes a request to its direct route, and all others to the router.

    An error that is not among `handled` goes on to the application's last handler.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[BaseRoute],
        handled: tuple[type[Exception], ...],
        answer: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._handled = handled
        self._answer = answer
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, DirectRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes the request on."""
        route = None
        # Behind a proxy's prefix the router knows which part of the path is ours.
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            await route.handle(scope, receive, send)
        except self._handled as error:
            response = await self._answer(Request(scope, receive, send), error)
            await response(scope, receive, send)
