#!/usr/bin/env python3
"""Runs the field cases as clients of another dialect would ask: dialects.py RUN.PY DIALECT [arguments of run.py]

A case has a native request and says what must come of it. Here the request is put in the dialect's terms, and what
comes is put in native ones again, so that the case is judged as it stands. What the dialect has no place for is left
out of it: the provider's own name of the model, and fields that it does not have.
"""
import http.client
import importlib.util
import json
import sys


def frames(response):
    """The events of a stream, parsed, "[DONE]" as it stands."""
    for line in response:
        if line.startswith(b"data: "):
            data = line[6:].strip().decode()
            yield data if data == "[DONE]" else json.loads(data)


# What OpenAI's clients know by another code than native ones.
CODES = {"insufficient_quota": "upstream_auth"}


def failed(got, error, headers):
    got["end"] = "error"
    got["error"] = {
        "code": CODES.get(error["code"], error["code"]), "error": error["message"], "retryable": error["type"] != "invalid_request_error",
        "retryAfter": int(headers.get("Retry-After") or 0),
    }


def state_in(details):
    return next((d["data"] for d in details or [] if d.get("format") == "websopy-v1"), None)


class Chat:
    """Chat Completions: the messages are native ones."""

    path = "/v1/chat/completions"
    without = ()  # fields, also of messages

    def request(self, native):
        return {**native, "stream": native.get("stream", True)}

    def said(self, message):
        if state := message.pop("state", None):
            message["reasoning_details"] = [{"type": "reasoning.encrypted", "format": "websopy-v1", "data": state}]
        return message

    def whole(self, got, answer):
        choice = answer["choices"][0]
        self.take(got, {**choice, "delta": choice["message"]}, answer.get("usage"))
        got["end"] = "done"

    def event(self, got, event):
        if event == "[DONE]":
            if got["end"] != "finish":
                got["faults"].append("[DONE] after %s" % got["end"])
            got["end"] = "done"
        else:
            self.take(got, event["choices"][0], event.get("usage"))

    def take(self, got, choice, usage):
        delta = choice["delta"]
        got["text"] += delta.get("content") or ""
        got["reasoning"] += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", []):
            got["calls"].append({"id": call["id"], **call["function"]})
        if choice["finish_reason"]:
            got["end"] = "finish"
            got["done"] = {"finishReason": choice["finish_reason"], "state": state_in(delta.get("reasoning_details"))}
            if usage:
                got["done"]["usage"] = {
                    "promptTokens": usage["prompt_tokens"], "completionTokens": usage["completion_tokens"],
                    "cachedTokens": usage.get("prompt_tokens_details", {}).get("cached_tokens"),
                    "reasoningTokens": usage.get("completion_tokens_details", {}).get("reasoning_tokens"),
                }


class Responses:
    """Responses: messages are items, and so are calls, their results and the state."""

    path = "/v1/responses"
    # What its requests have no field for, so that such a case asks something else.
    without = ("stop", "seed", "user", "top_k", "thinking", "metadata", "n", "logprobs",
               "reasoning_content", "reasoning_details", "extra_content")
    names = {"model": "model", "stream": "stream", "temperature": "temperature", "top_p": "top_p", "max_tokens": "max_output_tokens",
             "maxTokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}

    def request(self, native):
        out = {"stream": True, "store": False, "input": [i for m in native["messages"] for i in self.items(m)]}
        for name, value in native.items():
            if name in self.names:
                out[self.names[name]] = value
        if "tools" in native:
            out["tools"] = [{"type": "function", **t["function"]} for t in native["tools"]]
        choice = native.get("tool_choice", native.get("toolChoice"))
        if choice:
            out["tool_choice"] = {"type": "function", **choice["function"]} if isinstance(choice, dict) else choice
        if "reasoning_effort" in native:
            out["reasoning"] = {"effort": native["reasoning_effort"]}
        if "parallel_tool_calls" in native:
            out["parallel_tool_calls"] = native["parallel_tool_calls"]
        if "response_format" in native:
            form = native["response_format"]
            out["text"] = {"format": {"type": form["type"], **form.get("json_schema", {})}}
        return out

    def items(self, m):
        content = m.get("content")
        if m["role"] == "tool":
            return [{"type": "function_call_output", "call_id": m["tool_call_id"], "output": self.content(content, "input_text")}]
        text = "output_text" if m["role"] == "assistant" else "input_text"
        items = [{"role": m["role"], "content": self.content(content, text)}] if content else []
        for c in m.get("tool_calls", []):
            items.append({"type": "function_call", "call_id": c["id"], **c["function"]})
        if m.get("state"):
            items.append({"type": "reasoning", "summary": [], "encrypted_content": m["state"]})
        return items

    def content(self, content, text):
        if isinstance(content, str):
            return content
        return [{"type": text, "text": p["text"]} if p["type"] == "text" else {"type": "input_image", **self.image(p["image_url"])} for p in content]

    def image(self, image):
        return {"image_url": image} if isinstance(image, str) else {"image_url": image["url"], "detail": image.get("detail", "auto")}

    def said(self, message):
        return message

    def whole(self, got, response):
        self.finish(got, response)

    def event(self, got, event):
        kind = event["type"]
        if got["end"]:
            got["faults"].append("something follows the end: %s" % kind)
        if kind == "response.output_text.delta":
            got["text"] += event["delta"]
        elif kind == "response.reasoning_summary_text.delta":
            got["reasoning"] += event["delta"]
        elif kind in ("response.completed", "response.incomplete"):
            said = {"text": got["text"], "reasoning": got["reasoning"]}
            got.update(text="", reasoning="")
            self.finish(got, event["response"])
            if said != {"text": got["text"], "reasoning": got["reasoning"]}:
                got["faults"].append("the pieces are not the whole: %r" % said)

    def finish(self, got, r):
        state = None
        for item in r["output"]:
            if item["type"] == "message":
                got["text"] += "".join(p["text"] for p in item["content"])
            elif item["type"] == "reasoning":
                got["reasoning"] += "".join(p["text"] for p in item["summary"])
                state = item.get("encrypted_content", state)
            else:
                got["calls"].append({"id": item["call_id"], "name": item["name"], "arguments": item["arguments"]})
        reasons = {"max_output_tokens": "length", "content_filter": "content_filter"}
        reason = reasons[r["incomplete_details"]["reason"]] if r["incomplete_details"] else "tool_calls" if got["calls"] else "stop"
        u = r["usage"]
        got["end"] = "done"
        got["done"] = {"finishReason": reason, "state": state, "usage": {
            "promptTokens": u["input_tokens"], "completionTokens": u["output_tokens"],
            "cachedTokens": u["input_tokens_details"]["cached_tokens"] or None,
            "reasoningTokens": u["output_tokens_details"]["reasoning_tokens"] or None,
        }}


# The settings of a request that the dialects of frontends have, by native names, which they take as well.
SETTINGS = ("model", "temperature", "top_p", "max_tokens", "maxTokens", "max_completion_tokens", "seed", "stop", "tool_choice",
            "toolChoice", "response_format", "reasoning_effort")


class UIMessages:
    """The AI SDK's: a chat of messages with parts. What an assistant said and the results of its calls are one message."""

    path = "/api/chat"
    without = ("user", "top_k", "thinking", "metadata", "n", "logprobs", "parallel_tool_calls",
               "reasoning_content", "reasoning_details", "extra_content")
    untold = ("usage", "error.code", "error.retryable", "error.retryAfter")

    def request(self, native):
        messages = []
        for m in native["messages"]:
            if m["role"] == "tool":
                call = next(p for p in messages[-1]["parts"] if p.get("toolCallId") == m["tool_call_id"])
                call.update(state="output-available", output=self.text(m["content"]))
            elif m["role"] == "assistant" and messages and messages[-1]["role"] == "assistant":
                messages[-1]["parts"] += self.step(m)
            elif m["role"] == "assistant":
                messages.append({"role": "assistant", "parts": self.step(m)})
            else:
                messages.append({"role": m["role"], "parts": [self.part(p) for p in self.parts(m["content"])]})
        for i, m in enumerate(messages):
            m["id"] = "m%d" % i
        out = {name: native[name] for name in SETTINGS + ("tools",) if name in native}
        return {"id": "chat", "trigger": "submit-message", "messages": messages, **out}

    def parts(self, content):
        return [{"type": "text", "text": content}] if isinstance(content, str) else content or []

    def text(self, content):
        return "".join(p["text"] for p in self.parts(content))

    def part(self, p):
        if p["type"] == "text":
            return {"type": "text", "text": p["text"]}
        url = p["image_url"] if isinstance(p["image_url"], str) else p["image_url"]["url"]
        return {"type": "file", "mediaType": "image/png", "url": url}

    def step(self, m):
        parts = [{"type": "text", "text": p["text"]} for p in self.parts(m.get("content")) if p["text"]]
        for c in m.get("tool_calls", []):
            call = {"type": "tool-" + c["function"]["name"], "toolCallId": c["id"], "state": "input-available"}
            try:
                call["input"] = json.loads(c["function"].get("arguments") or "{}")
            except ValueError:
                call["input"] = c["function"]["arguments"]
            parts.append(call)
        if m.get("state") and parts:
            name = "callProviderMetadata" if "toolCallId" in parts[-1] else "providerMetadata"
            parts[-1][name] = {"websopy": {"state": m["state"]}}
        return [{"type": "step-start"}] + parts

    def said(self, message):
        return message

    def refused(self, got, body, headers):
        got.update(end="error", error={"error": body})

    def event(self, got, event):
        if event == "[DONE]":
            if got["end"] != "finish":
                got["faults"].append("[DONE] after %s" % got["end"])
            got["end"] = "done"
            return
        kind = event["type"]
        if got["end"]:
            got["faults"].append("something follows the end: %s" % kind)
        state = event.get("providerMetadata", {}).get("websopy", {}).get("state")
        if state:
            got["state"] = state
        if kind == "text-delta":
            got["text"] += event["delta"]
        elif kind == "reasoning-delta":
            got["reasoning"] += event["delta"]
        elif kind == "tool-input-available":
            got["calls"].append({"id": event["toolCallId"], "name": event["toolName"], "arguments": json.dumps(event["input"])})
        elif kind == "tool-input-error":
            got["calls"].append({"id": event["toolCallId"], "name": event["toolName"], "arguments": event["input"]})
        elif kind == "error":
            got.update(end="error", error={"error": event["errorText"]})
        elif kind == "finish":
            got["end"] = "finish"
            got["done"] = {"finishReason": event["finishReason"].replace("-", "_"), "state": got.pop("state", None)}


class AGUI:
    """AG-UI: the messages are nearly native ones, and the settings are forwarded properties."""

    path = "/api/agui"
    without = UIMessages.without
    untold = ("error.retryable", "error.retryAfter")

    def request(self, native):
        return {
            "threadId": "t", "runId": "r", "state": {}, "context": [],
            "messages": [{"id": "m%d" % i, **self.message(m)} for i, m in enumerate(native["messages"])],
            "tools": [t["function"] for t in native.get("tools", [])],
            "forwardedProps": {name: native[name] for name in SETTINGS if name in native},
        }

    def message(self, m):
        names = {"tool_calls": "toolCalls", "tool_call_id": "toolCallId", "state": "encryptedValue"}
        out = {names.get(name, name): value for name, value in m.items()}
        if isinstance(m.get("content"), list):
            out["content"] = [self.part(p) for p in m["content"]]
        return out

    def part(self, p):
        if p["type"] == "text":
            return p
        url = p["image_url"] if isinstance(p["image_url"], str) else p["image_url"]["url"]
        return {"type": "image", "source": {"type": "url", "value": url}}

    def said(self, message):
        return message

    def refused(self, got, body, headers):
        got.update(end="error", error=json.loads(body))

    def event(self, got, event):
        kind = event["type"]
        if got["end"]:
            got["faults"].append("something follows the end: %s" % kind)
        if kind == "TEXT_MESSAGE_CONTENT":
            got["text"] += event["delta"]
        elif kind == "REASONING_MESSAGE_CONTENT":
            got["reasoning"] += event["delta"]
        elif kind == "TOOL_CALL_START":
            got["calls"].append({"id": event["toolCallId"], "name": event["toolCallName"], "arguments": ""})
        elif kind == "TOOL_CALL_ARGS":
            got["calls"][-1]["arguments"] += event["delta"]
        elif kind == "REASONING_ENCRYPTED_VALUE":
            got["state"] = event["encryptedValue"]
        elif kind == "RUN_ERROR":
            got.update(end="error", error={"error": event["message"], "code": event["code"]})
        elif kind == "RUN_FINISHED":
            [usage] = event.get("usage", [{}])
            got["end"] = "done"
            got["done"] = {"finishReason": event["metadata"]["tanstack"]["finishReason"], "state": got.pop("state", None), "usage": {
                "promptTokens": usage.get("inputTokens"), "completionTokens": usage.get("outputTokens"),
                "cachedTokens": usage.get("cachedInputTokens"), "reasoningTokens": usage.get("reasoningTokens"),
            }}


class Messages:
    """Anthropic's Messages: results of tools stand in the user's message, and the state is a sealed block."""

    path = "/v1/messages"
    without = ("seed", "top_k", "n", "logprobs", "reasoning_content", "reasoning_details", "extra_content")
    untold = ("error.retryable",)
    names = {"model": "model", "stream": "stream", "temperature": "temperature", "top_p": "top_p", "stop": "stop_sequences",
             "max_tokens": "max_tokens", "maxTokens": "max_tokens", "max_completion_tokens": "max_tokens"}
    choices = {"auto": "auto", "none": "none", "required": "any"}

    def request(self, native):
        out = {"stream": True, "messages": [self.message(m) for m in native["messages"]]}
        for name, value in native.items():
            if name in self.names:
                out[self.names[name]] = value
        if "tools" in native:
            out["tools"] = [self.tool(t) for t in native["tools"]]
        choice = native.get("tool_choice", native.get("toolChoice"))
        if choice or "parallel_tool_calls" in native:
            named = isinstance(choice, dict)
            kind = {"type": "tool", "name": choice["function"]["name"]} if named else {"type": self.choices[choice or "auto"]}
            out["tool_choice"] = {**kind, "disable_parallel_tool_use": not native.get("parallel_tool_calls", True)}
        if "user" in native:
            out["metadata"] = {"user_id": native["user"]}
        config = {}
        if "reasoning_effort" in native:
            config["effort"] = native["reasoning_effort"]
        if "response_format" in native:
            form = native["response_format"]
            config["format"] = {"type": form["type"], **form.get("json_schema", {})}
        return {**out, "output_config": config} if config else out

    def tool(self, t):
        function = t["function"]
        out = {"name": function["name"], "input_schema": function.get("parameters", {"type": "object"})}
        return {**out, **{k: v for k, v in (*function.items(), *t.items()) if k in ("description", "cache_control")}}

    def message(self, m):
        mark = {k: m[k] for k in ("cache_control",) if k in m}
        blocks = self.content(m.get("content") or [])
        if m["role"] == "tool":
            return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": m["tool_call_id"], "content": blocks, **mark}]}
        for c in m.get("tool_calls", []):
            call = c["function"]
            blocks.append({"type": "tool_use", "id": c["id"], "name": call["name"], "input": json.loads(call["arguments"])})
        if mark and blocks:
            blocks[-1].update(mark)
        if m.get("state"):
            blocks.append({"type": "redacted_thinking", "data": m["state"]})
        return {"role": m["role"], "content": blocks}

    def content(self, content):
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        return [self.image(p) if p["type"] == "image_url" else dict(p) for p in content]

    def image(self, p):
        url = p["image_url"] if isinstance(p["image_url"], str) else p["image_url"]["url"]
        if not url.startswith("data:"):
            return {"type": "image", "source": {"type": "url", "url": url}}
        kind, data = url[5:].split(";base64,")
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}

    def said(self, message):
        return message

    def whole(self, got, message):
        for block in message["content"]:
            self.block(got, block)
            if block["type"] == "tool_use":
                got["calls"][-1]["arguments"] = json.dumps(block["input"])
        self.finish(got, message["stop_reason"], message["usage"])
        got["end"] = "done"

    def block(self, got, block):
        got["text"] += block.get("text", "")
        got["reasoning"] += block.get("thinking", "")
        if block["type"] == "tool_use":
            got["calls"].append({"id": block["id"], "name": block["name"], "arguments": ""})
        if block["type"] == "redacted_thinking":
            got["state"] = block["data"]

    def event(self, got, event):
        kind = event["type"]
        if got["end"]:
            got["faults"].append("something follows the end: %s" % kind)
        if kind == "content_block_start":
            self.block(got, event["content_block"])
        elif kind == "content_block_delta":
            delta = event["delta"]
            got["text"] += delta.get("text", "")
            got["reasoning"] += delta.get("thinking", "")
            if "partial_json" in delta:
                got["calls"][-1]["arguments"] += delta["partial_json"]
        elif kind == "message_delta":
            self.finish(got, event["delta"]["stop_reason"], event["usage"])
        elif kind == "message_stop":
            got["end"] = "done"

    def finish(self, got, reason, u):
        reasons = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}
        got["done"] = {"finishReason": reasons[reason], "state": got.pop("state", None), "usage": {
            "promptTokens": u["input_tokens"] + u["cache_read_input_tokens"], "completionTokens": u["output_tokens"],
            "cachedTokens": u["cache_read_input_tokens"] or None,
            "reasoningTokens": u.get("output_tokens_details", {}).get("thinking_tokens"),
        }}


DIALECTS = {"chat": Chat(), "responses": Responses(), "messages": Messages(), "ui": UIMessages(), "agui": AGUI()}


def without(want, untold):
    """What is wanted, less what a dialect does not tell."""
    want = {k: v for k, v in want.items() if k not in untold}
    if "error" in want:
        want["error"] = {k: v for k, v in want["error"].items() if "error." + k not in untold}
    return want


def asker(dialect):
    def ask(port, request, limit):
        got = {"text": "", "reasoning": "", "calls": [], "end": None, "faults": []}
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=limit)
        try:
            c.request("POST", dialect.path, json.dumps(dialect.request(request)), {"Content-Type": "application/json"})
            r = c.getresponse()
            if r.status >= 400 and hasattr(dialect, "refused"):
                dialect.refused(got, r.read().decode(), r.headers)
                return got
            if r.getheader("Content-Type", "").startswith("application/json"):
                answer = json.loads(r.read())
                failed(got, answer["error"], r.headers) if r.status >= 400 else dialect.whole(got, answer)
                return got
            for event in frames(r):
                if got["end"] == "error":
                    got["faults"].append("something follows the error")
                if isinstance(event, dict) and isinstance(event.get("error"), dict):
                    failed(got, event["error"], {})
                else:
                    dialect.event(got, event)
            got["end"] = got["end"] or "cut"
        except TimeoutError:
            got["end"] = "silence for %g s" % limit
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as x:
            got["end"] = "unreadable answer: %r" % x
        finally:
            c.close()
        return got

    return ask


def main():
    path, name = sys.argv[1:3]
    spec = importlib.util.spec_from_file_location("run", path)
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    dialect = DIALECTS[name]
    native_said, native_load, native_differences = run.said, run.load, run.differences
    run.ask = asker(dialect)
    run.said = lambda got, carry: dialect.said(native_said(got, carry))

    untold = ("model", *getattr(dialect, "untold", ()))

    def differences(want, got, seen):
        return native_differences(without(want, untold), got, seen)

    def load(directory):
        case = native_load(directory)
        asked = [case.get("request", {})] + [t.get("request", {}) for t in case.get("turns", [])]
        carried = {name: None for name in case.get("carry", [])}
        everything = [carried, *asked, *(m for r in asked for m in r.get("messages", []))]
        calls = [c for m in everything for c in m.get("tool_calls") or []]
        return {**case, "left_out": any(field in x for x in everything + calls for field in dialect.without)}

    native_case = run.run_case
    left_out = []

    def run_case(binary, case):
        if case["left_out"]:
            left_out.append(case["name"])
            return None
        return native_case(binary, case)

    run.differences, run.load, run.run_case = differences, load, run_case
    sys.argv[1:3] = []
    try:
        run.main()
    finally:
        if left_out:
            print("%d of them ask what %s can't: %s" % (len(left_out), name, " ".join(sorted(left_out))))


if __name__ == "__main__":
    main()
