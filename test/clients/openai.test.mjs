// OpenAI's own SDK, of three major versions.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { soon, start, weather } from "./world.mjs";

let world;
before(async () => {
	world = await start();
});
after(() => world.stop());

for (const version of ["openai-4", "openai-6", "openai-7"]) {
	describe(`${version}: Chat Completions`, async () => {
		const { default: OpenAI } = await import(version);
		const client = () => new OpenAI({ baseURL: `${world.url}/v1`, apiKey: world.key });
		const ask = (model, more = {}, options = {}) =>
			client().chat.completions.create({ model: `${model}/${version}`, messages: [{ role: "user", content: "hi" }], ...more }, options);

		/** Reads a stream: its text, its last usage and finish reason, and the error that it ended with. */
		async function read(stream) {
			const got = { text: "", reasoning: "", usage: null, finish: null, withoutChoices: 0 };
			try {
				for await (const chunk of stream) {
					const [choice] = chunk.choices;
					got.text += choice?.delta.content ?? "";
					got.reasoning += choice?.delta.reasoning_content ?? "";
					got.finish = choice?.finish_reason ?? got.finish;
					got.usage = chunk.usage ?? got.usage;
					got.withoutChoices += choice ? 0 : 1;
				}
			} catch (error) {
				got.error = error;
			}
			return got;
		}

		test("text, streamed and whole", async () => {
			const got = await read(await ask("text", { stream: true }));
			assert.deepEqual({ ...got, usage: got.usage.total_tokens }, {
				text: "Hello world", reasoning: "", finish: "stop", usage: 10, withoutChoices: 0,
			});
			const whole = await ask("text");
			assert.equal(whole.choices[0].message.content, "Hello world");
			assert.equal(whole.model, `text/${version}`);
			assert.equal(whole.usage.completion_tokens, 3);
		});

		test("usage in a chunk of its own, when asked for", async () => {
			const got = await read(await ask("text", { stream: true, stream_options: { include_usage: true } }));
			assert.equal(got.usage.total_tokens, 10);
			assert.equal(got.withoutChoices, 1);
		});

		test("the role developer, and reasoning", async () => {
			const messages = [{ role: "developer", content: "Be brief." }, { role: "user", content: "hi" }];
			const got = await read(await ask("reasoning", { stream: true, messages }));
			assert.equal(got.reasoning, "Let me think.");
			assert.equal(got.text, "Hello");
			assert.equal(world.provider.requests(`reasoning/${version}`)[0].body.messages[0].content, "Be brief.");
		});

		test("tools over two turns, with what the provider wants back", async () => {
			const model = `reasoning-tools/${version}`;
			const messages = [{ role: "user", content: "How is it in Paris?" }];
			const first = await ask("reasoning-tools", { messages, tools: [weather] });
			const { message } = first.choices[0];
			assert.equal(first.choices[0].finish_reason, "tool_calls");
			assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: "Paris" });
			messages.push(message, { role: "tool", tool_call_id: message.tool_calls[0].id, content: "21 degrees" });
			const second = await read(await ask("reasoning-tools", { messages, tools: [weather], stream: true }));
			assert.equal(second.text, "The tool says: 21 degrees.");
			const [, sent] = world.provider.requests(model)[1].body.messages;
			assert.equal(sent.reasoning_content, "I need a tool.");
			assert.equal(sent.reasoning_details, undefined, "the relay's own entry stays at the relay");
		});

		test("the helper that runs tools", async () => {
			const helper = client().chat.completions ?? client().beta.chat.completions;
			const runner = (helper.runTools ? helper : client().beta.chat.completions).runTools({
				model: `tools/${version}`, stream: true, messages: [{ role: "user", content: "How is it in Paris?" }],
				tools: [{ ...weather, function: { ...weather.function, parse: JSON.parse, function: ({ city }) => `21 degrees in ${city}` } }],
			});
			assert.equal(await runner.finalContent(), "The tool says: 21 degrees in Paris.");
			assert.equal(world.provider.requests(`tools/${version}`).length, 2);
		});

		test("an error before the answer has its class, and is not multiplied", async () => {
			for (const stream of [true, false]) {
				const model = `limited/${version}/${stream}`;
				await assert.rejects(client().chat.completions.create({ model, stream, messages: [{ role: "user", content: "hi" }] }), (error) => {
					assert.ok(error instanceof OpenAI.RateLimitError, String(error));
					assert.equal(error.status, 429);
					assert.equal(error.code, "upstream_rate_limited");
					assert.equal(error.type, "rate_limit_error");
					return true;
				});
				assert.equal(world.provider.requests(model).length, 3, "the relay's attempts, once");
			}
			await assert.rejects(ask("too-long", { stream: true }), (error) => {
				assert.ok(error instanceof OpenAI.BadRequestError);
				assert.equal(error.code, "context_length_exceeded");
				return true;
			});
			assert.equal(world.provider.requests(`too-long/${version}`).length, 1);
		});

		test("refusals of the relay's own", async () => {
			const stranger = new OpenAI({ baseURL: `${world.url}/v1`, apiKey: "wrong" });
			await assert.rejects(stranger.models.list(), (error) => error instanceof OpenAI.AuthenticationError && error.code === "unauthorized");
			await assert.rejects(ask("text", { n: 2 }), (error) => error instanceof OpenAI.BadRequestError && /\bn: want 1/.test(error.message));
			assert.ok(world.provider.requests(`text/${version}`).every(({ body }) => !("n" in body)));
		});

		test("an error in the stream, and a cut, are thrown after the text", async () => {
			for (const [model, code] of [["error-in-stream", "upstream_error"], ["cut", "upstream_truncated"]]) {
				const got = await read(await ask(model, { stream: true }));
				assert.equal(got.text, "Hel", model);
				assert.ok(got.error instanceof OpenAI.APIError, model);
				assert.equal(got.error.code, code);
				assert.equal(world.provider.requests(`${model}/${version}`).length, 1, "what has begun is not asked again");
			}
		});

		test("an abort reaches the provider", async () => {
			const stream = await ask("endless", { stream: true });
			for await (const chunk of stream) {
				assert.equal(chunk.choices[0].delta.content, "Hel");
				stream.controller.abort();
			}
			await soon(world.provider.requests(`endless/${version}`)[0].closed, "the provider sees that the client has left");
		});

		test("models", async () => {
			const ids = [];
			for await (const model of client().models.list()) ids.push(model.id);
			assert.deepEqual(ids, ["text/default"]);
			assert.equal((await client().models.retrieve("text/default")).owned_by, "openai");
			await assert.rejects(client().models.retrieve("none"), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
		});

		test("a relay that dies is an error, not an end", async () => {
			const mortal = await start();
			try {
				const stream = await new OpenAI({ baseURL: `${mortal.url}/v1`, apiKey: mortal.key, maxRetries: 0 }).chat.completions.create({
					model: "endless/mortal", stream: true, messages: [{ role: "user", content: "hi" }],
				});
				const iterator = stream[Symbol.asyncIterator]();
				assert.equal((await iterator.next()).value.choices[0].delta.content, "Hel");
				await mortal.kill();
				await assert.rejects(iterator.next());
			} finally {
				await mortal.stop();
			}
		});
	});
}
