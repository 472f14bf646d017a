"""A small OpenAI-compatible server around the tiny model that comes with the repository, in vLLM's dialect too.

Nothing is scripted: each answer is a forward pass of the model over the conversation as it came by HTTP.
"""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from dataset_builders.sharegpt import IMAGE_TOKEN
from dataset_builders.task_card import Answer, Prompt
from launch.predict.inputs import InputEncoder
from launch.predict.model import LoadedModel, ModelSpec, load_for_prediction

__all__ = ["ANY_SIZE", "TINY_MODEL", "ModelServer", "answering", "serve"]

TINY_MODEL = "models/tiny-qwen2_5-vl"
ANY_SIZE = {"image_min_pixels": 1, "image_max_pixels": 1 << 30}  # a server leaves resizing to the image processor


class ModelServer:
    """The model, and what it answers."""

    def __init__(self) -> None:
        self._loaded: LoadedModel = load_for_prediction(
            ModelSpec(TINY_MODEL, None, {"template": "qwen2_vl", **ANY_SIZE}, "cpu", "auto", 1)
        )
        self._lock = threading.Lock()
        self.requests = 0

    def answer(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        with self._lock:
            self.requests += path == "/v1/chat/completions"
            return {
                "/v1/models": lambda _: {"data": [{"id": "tiny"}]},
                "/v1/chat/completions": self._complete,
                "/tokenize": lambda body: {"tokens": self._cut(body)},
                "/detokenize": lambda body: {"prompt": self._loaded.tokenizer.decode(body["tokens"])},
            }[path](body)

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        import torch

        assert (body["model"], body["max_tokens"], body["temperature"], body["logprobs"]) == ("tiny", 1, 0, True)
        system, user, *reply = body["messages"]
        photo, text = user["content"]
        header, _, content = photo["image_url"]["url"].partition(",")
        assert header == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        prompt = Prompt(system=system["content"], user=text["text"])
        encoded = InputEncoder(self._loaded, prompt, [Answer(id="any", text="any")]).encode([image])
        begun = self._loaded.tokenizer.encode(reply[0]["content"]) if reply else []
        ids = torch.tensor([encoded.prompt_ids[0] + begun])
        kinds = (ids == self._loaded.model.config.image_token_id).int()
        with torch.inference_mode():
            output = self._loaded.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, **encoded.vision
            )
        logp_V = output.logits[0, -1].log_softmax(-1)
        wanted = body.get("logprob_token_ids") or logp_V.topk(body["top_logprobs"]).indices.tolist()
        named = [self._token(token, float(logp_V[token]), bool(body.get("logprob_token_ids"))) for token in wanted]
        return {"choices": [{"logprobs": {"content": [{"token": "", "logprob": 0.0, "top_logprobs": named}]}}]}

    def _token(self, token: int, logp: float, by_number: bool) -> dict[str, Any]:
        text = self._loaded.tokenizer.decode([token])
        return {"token": f"token_id:{token}" if by_number else text, "logprob": logp, "bytes": list(text.encode())}

    def _cut(self, body: dict[str, Any]) -> list[int]:
        tokenizer, template = self._loaded.tokenizer, self._loaded.template
        system, user, *reply = body["messages"]
        (text,) = user["content"]
        said = reply[0]["content"] if reply else ""
        assert IMAGE_TOKEN not in text["text"]
        messages = [{"role": "user", "content": text["text"]}, {"role": "assistant", "content": said}]
        prompt_ids, closed_ids = template.encode_multiturn(tokenizer, messages, system["content"], "")[0]
        if not reply:
            return prompt_ids
        return prompt_ids + (tokenizer.encode(said) if body["continue_final_message"] else closed_ids)


@contextmanager
def serve(server: Any) -> Iterator[str]:
    """Serve ``server.answer`` on a free port of the loopback address; the base address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # header and body in one packet: the client's system acknowledges the first of two late

        def do_GET(self) -> None:
            self._send(server.answer(self.path, None))

        def do_POST(self) -> None:
            server.authorization = self.headers["Authorization"]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(server.answer(self.path, body))

        def _send(self, answer: Any) -> None:
            status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(data), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/v1"
        finally:
            http.shutdown()
            thread.join()


def answering(*tokens: tuple[str, float]) -> dict[str, Any]:
    """A chat completion that names these tokens with their log-probabilities."""
    named = [{"token": token, "logprob": logp, "bytes": list(token.encode())} for token, logp in tokens]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": named}]}}]}
