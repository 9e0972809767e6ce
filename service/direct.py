"""A route that FastAPI describes in OpenAPI, and whose function is called without its help.

For each request FastAPI finds out anew what a function depends on, and keeps three stacks of what to close
after it: that took twice the CPU time of all the rest that a request costs beside its photo.
"""

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from service.admission import admitted


class DirectRoute(APIRoute):
    """Calls its function with the request alone, once it is admitted; its dependencies only describe it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers; what is raised is for the application's handlers.

        Raises:
            Unauthorized, RateLimited, TooManyRequests: the request is not let in.
        """
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # 405
            return
        request = Request(scope, receive, send)
        with admitted(request):
            response = await self.endpoint(request)
            await response(scope, receive, send)
