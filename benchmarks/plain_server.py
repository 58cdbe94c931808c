#!/usr/bin/env python3
"""The plain script: FastAPI around `model.generate()`, the way many tutorials serve a model.

    python plain_server.py CHECKPOINT --port 8001

It blocks inside an async handler, so it answers one request at a time and does not stream. Three
things are better than in such tutorials, because a measurement needs them: `usage` is filled in,
images come as data URLs, and the chat template sees every message. Needs fastapi and
transformers beside what sightline installs, and torchvision for Qwen2-VL.
"""

import argparse
import base64
import io

import torch
import uvicorn
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)


class ChatRequest(BaseModel):
    model: str
    messages: list[dict]
    max_tokens: int = 50


def open_images(messages: list[dict]) -> tuple[list[dict], list[Image.Image]]:
    """Return the messages with image parts as templates want them, and the images in order."""
    plain, images = [], []
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            parts = []
            for part in content:
                if part["type"] == "image_url":
                    data = base64.b64decode(part["image_url"]["url"].split(",", 1)[1])
                    images.append(Image.open(io.BytesIO(data)).convert("RGB"))
                    parts.append({"type": "image"})
                else:
                    parts.append(part)
            content = parts
        plain.append({"role": message["role"], "content": content})
    return plain, images


def make_app(checkpoint: str) -> FastAPI:
    sees = hasattr(AutoConfig.from_pretrained(checkpoint), "vision_config")
    processor = (AutoProcessor if sees else AutoTokenizer).from_pretrained(checkpoint)
    model_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model = model_class.from_pretrained(checkpoint, dtype=torch.bfloat16).eval()
    app = FastAPI()

    @app.get("/v1/models")
    async def models():
        return {"object": "list", "data": [{"id": checkpoint, "object": "model"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest):
        messages, images = open_images(request.messages)
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        if sees:
            inputs = processor(text=[text], images=images or None, return_tensors="pt")
        else:
            inputs = processor(text, add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=request.max_tokens, do_sample=False)
        prompt_tokens = inputs["input_ids"].shape[1]
        new = output[0, prompt_tokens:]
        message = {"role": "assistant", "content": processor.decode(new, skip_special_tokens=True)}
        return {
            "object": "chat.completion",
            "model": request.model,
            "choices": [{"index": 0, "finish_reason": "length", "message": message}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": len(new),
                "total_tokens": output.shape[1],
            },
        }

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    args = parser.parse_args()
    uvicorn.run(make_app(args.checkpoint), host=args.host, port=args.port, log_level="warning")
