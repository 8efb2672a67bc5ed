// LangChain for JavaScript, over Chat Completions and over Responses.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AIMessageChunk, HumanMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { soon, start, weather } from "./world.mjs";

let world;
before(async () => {
	world = await start();
});
after(() => world.stop());

for (const useResponsesApi of [false, true]) {
	const api = useResponsesApi ? "responses" : "chat";
	describe(`@langchain/openai over ${api}`, () => {
		const model = (name, more = {}) =>
			new ChatOpenAI({
				model: `${name}/langchain-${api}`, apiKey: world.key, configuration: { baseURL: `${world.url}/v1` },
				useResponsesApi, maxRetries: 1, ...(useResponsesApi && { zdrEnabled: true }), ...more,
			});
		const asked = (name) => world.provider.requests(`${name}/langchain-${api}`);

		async function read(stream) {
			let all = new AIMessageChunk("");
			try {
				for await (const chunk of stream) all = all.concat(chunk);
			} catch (error) {
				return { all, error };
			}
			return { all };
		}

		test("text and usage", async () => {
			const { all, error } = await read(await model("text").stream("hi"));
			assert.equal(error, undefined);
			assert.equal(all.text, "Hello world");
			assert.equal(all.usage_metadata.total_tokens, 10);
			const whole = await model("text").invoke("hi");
			assert.equal(whole.text, "Hello world");
			assert.equal(whole.usage_metadata.output_tokens, 3);
		});

		test("tools over two turns", async () => {
			const bound = model("tools").bindTools([weather]);
			const question = new HumanMessage("How is it in Paris?");
			const { all } = await read(await bound.stream([question]));
			assert.equal(all.tool_calls.length, 1);
			const [call] = all.tool_calls;
			assert.deepEqual(call.args, { city: "Paris" });
			const { all: second } = await read(await bound.stream([question, all, new ToolMessage({ content: "21 degrees", tool_call_id: call.id })]));
			assert.equal(second.text, "The tool says: 21 degrees.");
		});

		test("errors before the answer and in it", async () => {
			await assert.rejects(model("limited", { maxRetries: 0 }).invoke("hi"), (error) => error.status === 429);
			assert.equal(asked("limited").length, 3, "the relay's attempts");
			for (const name of ["error-in-stream", "cut"]) {
				const { all, error } = await read(await model(name).stream("hi"));
				assert.equal(all.text, "Hel", name);
				assert.ok(error, `${name} is no end`);
			}
		});

		test("an abort reaches the provider", async () => {
			const abort = new AbortController();
			const stream = await model("endless").stream("hi", { signal: abort.signal });
			await assert.rejects(async () => {
				for await (const chunk of stream) if (chunk.text) abort.abort();
			});
			await soon(asked("endless")[0].closed, "the provider sees that the client has left");
		});
	});
}
