// The AI SDK's providers for OpenAI, and for what is like OpenAI, with generateText and streamText of their time.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { z } from "zod";
import { soon, start } from "./world.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

let world;
before(async () => {
	world = await start();
});
after(() => world.stop());

/** Each version of the SDK with its providers, and how a model is made of a name. */
const versions = { 5: ["2", "1"], 6: ["3", "2"], 7: ["4", "3"] };

for (const [version, [openaiVersion, compatibleVersion]] of Object.entries(versions)) {
	const { generateText, streamText, stepCountIs, isStepCount, tool } = await import(`ai-${version}`);
	const { createOpenAI } = await import(`ai-sdk-openai-${openaiVersion}`);
	const { createOpenAICompatible } = await import(`ai-sdk-compatible-${compatibleVersion}`);
	const steps = isStepCount ?? stepCountIs;
	const apis = {
		chat: (name) => createOpenAI({ baseURL: `${world.url}/v1`, apiKey: world.key }).chat(name),
		responses: (name) => createOpenAI({ baseURL: `${world.url}/v1`, apiKey: world.key })(name),
		compatible: (name) =>
			createOpenAICompatible({ name: "relay", baseURL: `${world.url}/v1`, apiKey: world.key, includeUsage: true })(name),
	};
	for (const [api, model] of Object.entries(apis)) {
		describe(`ai ${version}: ${api}`, () => {
			const id = (name) => `${name}/ai-${version}-${api}`;
			const asked = (name) => world.provider.requests(id(name));
			const options = (name, more) => ({
				model: model(id(name)), prompt: "hi", maxRetries: 0, onError() {},
				...(api === "responses" && { providerOptions: { openai: { store: false } } }), ...more,
			});

			async function read(name, more) {
				const got = { text: "", reasoning: "", errors: [] };
				for await (const part of streamText(options(name, more)).fullStream) {
					if (part.type === "text-delta") got.text += part.text;
					if (part.type === "reasoning-delta") got.reasoning += part.text;
					if (part.type === "error") got.errors.push(part.error);
					if (part.type === "finish") Object.assign(got, { finish: part.finishReason, usage: part.totalUsage });
				}
				return got;
			}

			test("text, thinking and usage", async () => {
				const got = await read("reasoning");
				assert.equal(got.text, "Hello");
				assert.equal(got.finish, "stop");
				assert.deepEqual(got.errors, []);
				assert.equal(got.usage.totalTokens, 10);
				// .chat() drops thinking, whoever sends it.
				assert.equal(got.reasoning, api === "chat" ? "" : "Let me think.");
				assert.equal((await generateText(options("text"))).text, "Hello world");
			});

			test("a loop of tools, with what the provider wants back", async () => {
				const weather = tool({
					description: "The weather of a city", inputSchema: z.object({ city: z.string() }), execute: ({ city }) => `21 degrees in ${city}`,
				});
				const result = await generateText(options("reasoning-tools", { tools: { weather }, stopWhen: steps(3) }));
				assert.match(result.text, /^The tool says: "?21 degrees in Paris"?\.$/);
				assert.equal(asked("reasoning-tools").length, 2);
				const sent = asked("reasoning-tools")[1].body.messages.find(({ role }) => role === "assistant");
				assert.equal(sent.tool_calls[0].function.name, "weather");
				if (api !== "chat") assert.equal(sent.reasoning_content, "I need a tool.");
			});

			test("errors before the answer and in it", async () => {
				await assert.rejects(generateText(options("limited")), (error) => error.statusCode === 429 && /limiting/.test(error.message));
				assert.equal(asked("limited").length, 3, "the relay's attempts");
				for (const name of ["error-in-stream", "cut"]) {
					const got = await read(name);
					assert.equal(got.text, "Hel", name);
					assert.ok(got.errors.length > 0, `${name} is no end`);
				}
			});

			test("an abort reaches the provider", async () => {
				const abort = new AbortController();
				const { fullStream } = streamText(options("endless", { abortSignal: abort.signal }));
				for await (const part of fullStream) if (part.type === "text-delta") abort.abort();
				await soon(asked("endless")[0].closed, "the provider sees that the client has left");
			});
		});
	}

	test(`ai ${version}: what the relay would have to store is refused, and how to do without`, async () => {
		const relay = createOpenAI({ baseURL: `${world.url}/v1`, apiKey: world.key });
		const weather = tool({ inputSchema: z.object({ city: z.string() }), execute: () => "21 degrees" });
		const run = generateText({ model: relay(`reasoning-tools/ai-${version}-stored`), prompt: "hi", maxRetries: 0, tools: { weather }, stopWhen: steps(3) });
		await assert.rejects(run, /set store to false \(AI SDK: providerOptions\.openai\.store\)/);
	});
}
