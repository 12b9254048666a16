"""What the test of the API tells Schemathesis: requests come from many networks, since each is answered so often only."""

import itertools

import schemathesis

networks = itertools.count()


@schemathesis.hook
def before_call(context, case, kwargs):
    n = next(networks)
    case.headers["X-Forwarded-For"] = f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
