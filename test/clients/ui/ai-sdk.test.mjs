// The AI SDK's chat, of four releases, against /api/chat. What useChat of a framework adds is in browser.test.mjs.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { soon, start } from "../world.mjs";

let world;
before(async () => {
	world = await start();
});
after(() => world.stop());

/** What a framework's package keeps messages in. */
class State {
	status = "ready";
	error = undefined;
	messages = [];
	constructor(messages = []) {
		this.messages = messages;
	}
	pushMessage = (message) => {
		this.messages = [...this.messages, message];
	};
	popMessage = () => {
		this.messages = this.messages.slice(0, -1);
	};
	replaceMessage = (index, message) => {
		this.messages = this.messages.with(index, structuredClone(message));
	};
	snapshot = (value) => structuredClone(value);
}

const weather = { weather: { description: "The weather of a city", parameters: { type: "object", properties: { city: { type: "string" } } } } };

for (const version of ["ai-5-old", "ai-5", "ai-6", "ai-7"]) {
	describe(`${version}: useChat's chat`, async () => {
		const { AbstractChat, DefaultChatTransport, TextStreamChatTransport, lastAssistantMessageIsCompleteWithToolCalls } = await import(version);
		class Chat extends AbstractChat {
			constructor({ messages, ...init }) {
				super({ ...init, state: new State(messages) });
			}
		}
		const options = (model, body) => ({
			api: `${world.url}/api/chat`, headers: { Authorization: `Bearer ${world.key}` }, body: { model: `${model}/${version}`, ...body },
		});
		const chat = (model, { body, ...more } = {}) => new Chat({ transport: new DefaultChatTransport(options(model, body)), ...more });
		const asked = (model) => world.provider.requests(`${model}/${version}`);
		const texts = (message, type = "text") => message.parts.filter((part) => part.type === type).map((part) => part.text).join("|");

		test("text, and a second turn", async () => {
			const finished = [];
			const c = chat("text", { onFinish: (event) => finished.push(event) });
			await c.sendMessage({ text: "hi" });
			assert.equal(c.error, undefined);
			assert.equal(c.status, "ready");
			assert.equal(texts(c.messages[1]), "Hello world");
			assert.equal(finished[0].finishReason, "stop");
			await c.sendMessage({ text: "and then?" });
			assert.deepEqual(c.messages.map(({ role }) => role), ["user", "assistant", "user", "assistant"]);
			assert.deepEqual(asked("text")[1].body.messages, [
				{ role: "user", content: "hi" }, { role: "assistant", content: "Hello world" }, { role: "user", content: "and then?" },
			]);
			assert.equal(new Set(c.messages.map(({ id }) => id)).size, 4);
		});

		test("settings of the model, and a system message", async () => {
			const c = chat("text", { body: { model: `text/settings-${version}`, system: "Be nice.", temperature: 0.5, mine: { a: 1 } } });
			await c.sendMessage({ text: "hi" });
			const [{ body }] = world.provider.requests(`text/settings-${version}`);
			assert.equal(body.temperature, 0.5);
			assert.equal(body.mine, undefined);
			assert.deepEqual(body.messages[0], { role: "system", content: "Be nice." });
		});

		test("reasoning", async () => {
			const c = chat("reasoning");
			await c.sendMessage({ text: "hi" });
			assert.equal(texts(c.messages[1], "reasoning"), "Let me think.");
			assert.equal(texts(c.messages[1]), "Hello");
		});

		test("an image", async () => {
			const c = chat("text", { body: { model: `text/image-${version}` } });
			await c.sendMessage({ text: "what is it?", files: [{ type: "file", mediaType: "image/png", url: "data:image/png;base64,AA==" }] });
			assert.equal(c.error, undefined);
			const [{ content }] = world.provider.requests(`text/image-${version}`)[0].body.messages;
			assert.deepEqual(content.find((part) => part.type === "image_url").image_url.url, "data:image/png;base64,AA==");
		});

		test("a file that is no image is refused in words", async () => {
			const c = chat("text");
			await c.sendMessage({ text: "read", files: [{ type: "file", mediaType: "application/pdf", url: "data:application/pdf;base64,AA==" }] });
			assert.equal(c.status, "error");
			assert.match(c.error.message, /^messages\[0\]\.parts\[\d\]\.mediaType: want an image, got "application\/pdf"$/);
		});

		test("a tool: one message, two requests, and what the provider wants back", async () => {
			const c = chat("reasoning-tools", {
				body: { tools: weather }, sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
				onToolCall({ toolCall }) {
					assert.deepEqual(toolCall.input, { city: "Paris" });
					const result = { tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { degrees: 21 } };
					void (c.addToolOutput ?? c.addToolResult)(result);
				},
			});
			const done = new Promise((resolve) => {
				const look = setInterval(() => {
					if (c.status === "error" || (c.status === "ready" && asked("reasoning-tools").length === 2)) resolve(clearInterval(look));
				}, 10);
			});
			await c.sendMessage({ text: "How is it in Paris?" });
			await soon(done, "the answer with the tool's result");
			assert.equal(c.error, undefined);
			assert.equal(c.messages.length, 2, "the answer is one message");
			assert.equal(texts(c.messages[1]), 'The tool says: |{"degrees":21}|.'.replaceAll("|", ""));
			assert.equal(asked("reasoning-tools").length, 2, "and nothing is sent again");
			const [, said, result] = asked("reasoning-tools")[1].body.messages;
			assert.equal(said.reasoning_content, "I need a tool.", "the state came back");
			assert.deepEqual(JSON.parse(said.tool_calls[0].function.arguments), { city: "Paris" });
			assert.deepEqual(result, { role: "tool", tool_call_id: "call_1", content: '{"degrees":21}' });
		});

		test("an error before the answer: its words, no empty message, no retry", async () => {
			const c = chat("too-long");
			await c.sendMessage({ text: "hi" });
			assert.equal(c.status, "error");
			assert.match(c.error.message, /context length/);
			assert.deepEqual(c.messages.map(({ role }) => role), ["user"]);
			assert.equal(asked("too-long").length, 1);
		});

		test("an error in the answer keeps its text", async () => {
			const c = chat("error-in-stream");
			await c.sendMessage({ text: "hi" });
			assert.equal(c.status, "error");
			assert.match(c.error.message, /provider/);
			assert.equal(texts(c.messages[1]), "Hel");
			assert.equal(asked("error-in-stream").length, 1);
		});

		test("an answer that is cut is an error", async () => {
			const c = chat("cut");
			await c.sendMessage({ text: "hi" });
			assert.equal(c.status, "error");
			assert.equal(texts(c.messages[1]), "Hel");
		});

		test("a key that is refused", async () => {
			const c = new Chat({ transport: new DefaultChatTransport({ api: `${world.url}/api/chat` }) });
			await c.sendMessage({ text: "hi" });
			assert.equal(c.status, "error");
			assert.match(c.error.message, /unauthorized/);
		});

		/** Waits until the chat shows a text. */
		const shows = (c, text) =>
			soon((async () => {
				while (c.messages.at(-1)?.role !== "assistant" || texts(c.messages.at(-1)) !== text) await new Promise((resolve) => setTimeout(resolve, 5));
			})(), `the text ${text}`);

		test("stop stops the provider", async () => {
			const c = chat("endless");
			const sent = c.sendMessage({ text: "hi" });
			await shows(c, "Hel");
			await c.stop();
			await sent;
			assert.equal(c.status, "ready");
			await soon(asked("endless")[0].closed, "the provider sees it");
		});

		test("a resumable chat goes on without its page, and a reload has all of it, once", async () => {
			const model = `gated/${version}`;
			const id = `chat-of-${version}-0123456789`;
			const body = { resumable: true };
			const before = chat("gated", { id, body });
			const sent = before.sendMessage({ text: "hi" });
			await shows(before, "Hello");
			await before.stop(); // for the relay the same as a page that is closed
			await sent;

			const after = chat("gated", { id, body, messages: before.messages.slice(0, 1) });
			const resumed = after.resumeStream();
			await shows(after, "Hello");
			world.provider.goOn(model);
			await soon(resumed, "the rest of the answer");
			assert.equal(after.error, undefined);
			assert.equal(after.status, "ready");
			assert.equal(after.messages.length, 2);
			assert.equal(texts(after.messages[1]), "Hello world");
			assert.equal(after.messages[1].id, before.messages[1].id);
			assert.equal(asked("gated").length, 1, "the provider was asked once");

			const again = chat("gated", { id, body, messages: after.messages });
			await again.resumeStream();
			assert.equal(again.error, undefined);
			assert.deepEqual(again.messages, after.messages, "204: there is nothing to resume");
		});

		// 5.0.95 has both, the part and the whole: an app must not keep the part.
		if (version !== "ai-5-old") test("a reload with a part of the answer on the page shows it once", async () => {
			const model = `gated/part-${version}`;
			const id = `chat-with-a-part-${version}`;
			const body = { resumable: true, model };
			const before = chat("gated", { id, body });
			const sent = before.sendMessage({ text: "hi" });
			await shows(before, "Hello");
			await before.stop();
			await sent;
			const after = chat("gated", { id, body, messages: before.messages });
			const resumed = after.resumeStream();
			world.provider.goOn(model);
			await soon(resumed, "the rest of the answer");
			assert.equal(after.messages.length, 2);
			assert.equal(texts(after.messages[1]), "Hello world");
		});

		for (const keep of ["the call", "a part of the answer, too"]) {
			// 5.0.95 shows what it has and what it is told.
			if (version !== "ai-5-old") test(`a reload in the answer to a tool's result keeps the call, of a page with ${keep}`, async () => {
				const model = `gated-tools/${version}-${keep.length}`;
				const body = { resumable: true, model, tools: weather };
				const id = `chat-with-a-tool-${version}-${keep.length}`;
				const before = chat("gated-tools", {
					id, body, sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
					onToolCall: ({ toolCall }) =>
						void (before.addToolOutput ?? before.addToolResult)({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { degrees: 21 } }),
				});
				void before.sendMessage({ text: "How is it in Paris?" });
				await shows(before, "The tool");
				const parts = before.messages[1].parts;
				await before.stop();

				const kept = keep === "the call" ? parts.slice(0, parts.findLastIndex(({ type }) => type === "step-start")) : parts;
				let called = 0;
				const after = chat("gated-tools", {
					id, body, messages: [before.messages[0], { ...before.messages[1], parts: kept }],
					sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls, onToolCall: () => void called++,
				});
				const resumed = after.resumeStream();
				world.provider.goOn(model);
				await soon(resumed, "the rest of the answer");
				assert.equal(after.error, undefined);
				assert.equal(after.messages.length, 2);
				assert.equal(texts(after.messages[1]), 'The tool says: {"degrees":21}.');
				const calls = after.messages[1].parts.filter(({ type }) => type === "tool-weather");
				assert.deepEqual(calls.map(({ state, input, output }) => ({ state, input, output })), [
					{ state: "output-available", input: { city: "Paris" }, output: { degrees: 21 } },
				]);
				assert.equal(called, 0, "and it is not run again");
				assert.equal(world.provider.requests(model).length, 2);
				await after.sendMessage({ text: "Thanks." });
				const sent = world.provider.requests(model)[2].body.messages;
				assert.deepEqual(sent.map(({ role }) => role), ["user", "assistant", "tool", "assistant", "user"]);
			});
		}

		test("a resumable chat is stopped by its path", async () => {
			const id = `stopped-chat-of-${version}`;
			const model = `endless/resumable-${version}`;
			const c = chat("endless", { id, body: { resumable: true, model } });
			const sent = c.sendMessage({ text: "hi" });
			await shows(c, "Hel");
			const { status } = await fetch(`${world.url}/api/chat/${id}/stop`, { method: "POST", headers: { Authorization: `Bearer ${world.key}` } });
			assert.equal(status, 202);
			await soon(sent, "the end");
			assert.equal(c.status, "ready");
			await soon(world.provider.requests(model)[0].closed, "the provider sees it");
		});

		test("plain text", async () => {
			const plain = options("text");
			const c = new Chat({ transport: new TextStreamChatTransport({ ...plain, headers: { ...plain.headers, Accept: "text/plain" } }) });
			await c.sendMessage({ text: "hi" });
			assert.equal(c.error, undefined);
			assert.equal(texts(c.messages[1]), "Hello world");
		});
	});
}

test("a relay that dies is an error, not the end of the answer", async () => {
	const mortal = await start();
	const { AbstractChat, DefaultChatTransport } = await import("ai-7");
	const state = new State();
	class Chat extends AbstractChat {}
	const c = new Chat({
		state,
		transport: new DefaultChatTransport({
			api: `${mortal.url}/api/chat`, headers: { Authorization: `Bearer ${mortal.key}` }, body: { model: "endless" },
		}),
	});
	const sent = c.sendMessage({ text: "hi" });
	while (state.messages.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
	await mortal.kill();
	await soon(sent, "the error");
	assert.equal(c.status, "error");
	await mortal.provider.stop();
});
