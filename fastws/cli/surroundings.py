"""Variables that a process is started with and that are nobody's settings. Layer 7."""

import re

import click

# What Kubernetes, and links of Docker, put into the variables of a pod for each Service: one that
# is called fastws sets FASTWS_PORT, FASTWS_SERVICE_HOST, FASTWS_PORT_8080_TCP_ADDR and so on.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


class PortOption(click.Option):
    """A port, whose variable may be a Service's: `tcp://10.0.0.7:8080` is nobody's setting."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what the variable says, None for a link to a Service."""
        value = super().resolve_envvar_value(ctx)
        return None if value is None or _SERVICE_LINK.fullmatch(value) else value
