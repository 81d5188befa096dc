"""The part of vLLM's HTTP interface that rollouts use, in memory: for the agent's and the client's tests."""

import asyncio
import json
import threading
from pathlib import Path

from aiohttp import web
from safetensors import safe_open


class FakeVllm:
    """A server that holds adapters by name and answers with tokens that tell which weights it used."""

    def __init__(self, key="secret"):
        self.key, self.adapters, self.requests, self.slow, self.answered = key, {}, [], 0.0, 0
        self.asked, self.forms, self.forgetful, self.at_work = [], [], False, 0

    def app(self):
        app = web.Application(middlewares=[self._with_key], client_max_size=1 << 26)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/load_lora_adapter", self._load)
        app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/tokenize", self._metrics)
        return app

    @web.middleware
    async def _with_key(self, request, handler):
        self.requests.append(request.path)
        if request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {self.key}":
            raise web.HTTPUnauthorized
        return await handler(request)

    async def _metrics(self, _request):
        return web.Response(text="vllm:requests 1\n")

    async def _models(self, _request):
        return web.json_response({"data": [{"id": name} for name in ["base", *self.adapters]]})

    async def _load(self, request):
        body = await request.json()
        path = Path(body["lora_path"])
        assert json.loads((path / "adapter_config.json").read_text())["r"]
        with safe_open(path / "adapter_model.safetensors", "pt") as file:
            told = "value" in file.keys()  # noqa: SIM118 - a file, not a mapping
            version = int(body["lora_name"].rpartition("-v")[2])
            self.adapters[body["lora_name"]] = int(file.get_tensor("value")[0]) if told else version
        return web.Response(text="ok")

    async def _unload(self, request):
        del self.adapters[(await request.json())["lora_name"]]
        return web.Response(text="ok")

    async def _complete(self, request):
        body = await request.json()
        if body["model"] != "base" and (self.forgetful or body["model"] not in self.adapters):
            raise web.HTTPNotFound
        self.at_work += 1
        try:
            await asyncio.sleep(self.slow if body["prompt"][0] > 1 else 0)
        finally:
            self.at_work -= 1
        self.answered += 1
        self.asked.append(body["model"])
        self.forms.append(body.get("response_format"))
        if "prompt_logprobs" in body:
            return web.json_response({"choices": [{"prompt_logprobs": self._scored(body)}]})
        value = self.adapters.get(body["model"], 0)
        ids = [*body["prompt"], value, body["stop_token_ids"][0]]
        choice = {"token_ids": ids, "logprobs": {"token_logprobs": [-0.5] * len(ids)}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice]})

    def _scored(self, body):
        """−(id + version) / 10 of every token but the first, which has nothing before it."""
        version = self.adapters.get(body["model"], 0)
        return [None, *({str(i): {"logprob": -(i + version) / 10}} for i in body["prompt"][1:])]


class Served:
    """Applications served on loopback by a thread of their own; `stop` and `start` keep the ports."""

    def __init__(self, *apps):
        self._make, self.ports = apps, [0] * len(apps)
        self.start()

    def start(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runners = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    async def _open(self):
        runners = []
        for place, make in enumerate(self._make):
            runner = web.AppRunner(make(), shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self.ports[place], reuse_address=True)
            await site.start()
            self.ports[place] = site._server.sockets[0].getsockname()[1]
            runners.append(runner)
        return runners

    @property
    def urls(self):
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def stop(self):
        async def close():
            for runner in self._runners:
                await runner.cleanup()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
