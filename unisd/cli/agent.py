"""`unisd policy-agent`: what stands before a vLLM server."""

import argparse
from pathlib import Path

from unisd.cli.console import BAD_INPUT, Commands, complain


def add(commands: Commands) -> None:
    """Tells the parser of the command."""
    agent = commands.add_parser("policy-agent", help="stand before a vLLM server on this machine (UNISD_API_KEY)")
    agent.add_argument("--server", required=True, help="URL of vLLM, on loopback")
    agent.add_argument("--adapters", type=Path, required=True, help="memory-backed directory that vLLM reads too")
    agent.add_argument("--host", default="::", help="address to listen at; default every one")
    agent.add_argument("--port", type=int, default=8000, help="port of requests; default 8000")
    agent.add_argument("--metrics-port", type=int, default=9400, help="port of /metrics and /progress; default 9400")
    agent.set_defaults(command=_policy_agent)


def _policy_agent(options: argparse.Namespace) -> int:
    import asyncio
    import os

    from unisd.rollouts.agent import AgentSettings, serve

    key = os.environ.get("UNISD_API_KEY", "")
    if not key:
        complain("UNISD_API_KEY is empty: an agent without a key would serve everybody; set it")
        return BAD_INPUT
    asyncio.run(
        serve(AgentSettings(options.server, key, options.adapters), options.host, options.port, options.metrics_port)
    )
    return 0
