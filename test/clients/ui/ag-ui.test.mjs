// Clients of AG-UI: its own HttpAgent, and TanStack AI's chat.
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { HttpAgent } from "@ag-ui/client";
import { ChatClient, clientTools, fetchServerSentEvents } from "@tanstack/ai-client";
import { toolDefinition } from "@tanstack/ai";
import { soon, start } from "../world.mjs";

let world;
before(async () => {
	world = await start();
});
after(() => world.stop());

describe("HttpAgent", () => {
	const agent = (messages = [{ id: "u1", role: "user", content: "hi" }]) =>
		new HttpAgent({ url: `${world.url}/api/agui`, headers: { Authorization: `Bearer ${world.key}` }, initialMessages: messages });

	/** Runs an agent, and gives its events by type. */
	async function run(agent, model, more = {}) {
		const events = [];
		let error;
		await agent.runAgent({ forwardedProps: { model }, ...more }, { onEvent: ({ event }) => void events.push(event) }).catch((e) => (error = e));
		return { error, events, of: (type) => events.filter((event) => event.type === type) };
	}

	test("text, usage, and a second turn", async () => {
		const a = agent();
		const { error, of } = await run(a, "text/agent");
		assert.equal(error, undefined);
		assert.equal(a.messages.at(-1).content, "Hello world");
		assert.deepEqual(of("RUN_FINISHED")[0].usage, [{ model: "m-1", inputTokens: 7, outputTokens: 3, totalTokens: 10 }]);
		assert.deepEqual(of("RUN_FINISHED")[0].metadata, { tanstack: { finishReason: "stop" } });
		assert.equal(of("RUN_STARTED")[0].threadId, a.threadId);
		a.addMessage({ id: "u2", role: "user", content: "and then?" });
		await run(a, "text/agent");
		assert.deepEqual(world.provider.requests("text/agent")[1].body.messages.map(({ content }) => content), ["hi", "Hello world", "and then?"]);
		assert.equal(a.messages.length, 4);
	});

	test("reasoning", async () => {
		const a = agent();
		await run(a, "reasoning/agent");
		assert.deepEqual(a.messages.slice(1).map(({ role, content }) => [role, content]), [["reasoning", "Let me think."], ["assistant", "Hello"]]);
	});

	test("a tool over two runs, and what the provider wants back", async () => {
		const a = agent([{ id: "u1", role: "user", content: "How is it in Paris?" }]);
		const tools = [{ name: "weather", description: "The weather of a city", parameters: { type: "object", properties: { city: { type: "string" } } } }];
		const { error } = await run(a, "reasoning-tools/agent", { tools });
		assert.equal(error, undefined);
		const [call] = a.messages.at(-1).toolCalls;
		assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
		a.addMessage({ id: "t1", role: "tool", toolCallId: call.id, content: "21 degrees" });
		await run(a, "reasoning-tools/agent", { tools });
		assert.equal(a.messages.at(-1).content, "The tool says: 21 degrees.");
		const [, said] = world.provider.requests("reasoning-tools/agent")[1].body.messages;
		assert.equal(said.reasoning_content, "I need a tool.", "the state came back");
	});

	test("errors before and in the answer", async () => {
		const before = await run(agent(), "too-long/agent");
		assert.equal(before.of("RUN_ERROR")[0].code, "context_length_exceeded");
		const a = agent();
		const within = await run(a, "error-in-stream/agent");
		assert.equal(within.of("RUN_ERROR")[0].code, "upstream_error");
		assert.equal(a.messages.at(-1).content, "Hel");
		assert.equal(world.provider.requests("error-in-stream/agent").length, 1);
		const cut = await run(agent(), "cut/agent");
		assert.equal(cut.of("RUN_ERROR")[0].code, "upstream_truncated");
	});

	test("a refusal", async () => {
		const a = new HttpAgent({ url: `${world.url}/api/agui`, initialMessages: [{ id: "u1", role: "user", content: "hi" }] });
		const { error } = await run(a, "text/agent");
		assert.match(error.message, /401/);
	});

	test("an abort stops the provider", async () => {
		const a = agent();
		const model = "endless/agent";
		const running = run(a, model);
		while (a.messages.at(-1).content !== "Hel") await new Promise((resolve) => setTimeout(resolve, 5));
		a.abortRun();
		await soon(running, "the end of the run");
		await soon(world.provider.requests(model)[0].closed, "the provider sees it");
	});
});

/** A way to the relay that can be cut. */
async function wire() {
	const { hostname, port } = new URL(world.url);
	const open = new Set();
	let connections = 0;
	const server = createServer((client) => {
		connections++;
		const relay = connect({ host: hostname, port });
		for (const [one, other] of [[client, relay], [relay, client]]) {
			open.add(one);
			one.pipe(other);
			one.on("error", () => other.destroy()).on("close", () => other.destroy());
		}
	}).listen(0, "127.0.0.1");
	await once(server, "listening");
	return {
		url: `http://127.0.0.1:${server.address().port}`,
		get connections() {
			return connections;
		},
		cut() {
			for (const socket of open) socket.resetAndDestroy();
			open.clear();
		},
		close() {
			this.cut();
			server.close();
		},
	};
}

describe("TanStack AI's chat", () => {
	const client = (model, { url = world.url, body, ...more } = {}) =>
		new ChatClient({
			connection: fetchServerSentEvents(`${url}/api/agui`, { headers: { Authorization: `Bearer ${world.key}` } }),
			body: { model, ...body }, ...more,
		});
	const text = (message) => message?.parts.filter(({ type }) => type === "text").map(({ content }) => content).join("|");

	test("text", async () => {
		const c = client("text/tanstack");
		await c.sendMessage("hi");
		assert.equal(c.getError(), undefined);
		assert.equal(text(c.getMessages()[1]), "Hello world");
	});

	test("a tool of the browser: one message more, two requests", async () => {
		const weather = toolDefinition({ name: "weather", description: "The weather of a city", inputSchema: { type: "object", properties: { city: { type: "string" } } } });
		const c = client("tools/tanstack", { tools: clientTools(weather.client(({ city }) => ({ city, degrees: 21 }))) });
		await c.sendMessage("How is it in Paris?");
		const asked = () => world.provider.requests("tools/tanstack");
		await soon((async () => {
			while (!c.getError() && (asked().length < 2 || c.getIsLoading())) await new Promise((resolve) => setTimeout(resolve, 5));
		})(), "the answer with the tool's result");
		assert.equal(c.getError(), undefined);
		assert.match(text(c.getMessages().at(-1)), /The tool says: .*21.*\.$/);
		assert.equal(asked().length, 2);
	});

	test("an error in the answer", async () => {
		const c = client("error-in-stream/tanstack");
		await c.sendMessage("hi").catch(() => {});
		assert.match(c.getError().message, /provider/);
	});

	test("stop stops the provider", async () => {
		const c = client("endless/tanstack");
		const sent = c.sendMessage("hi");
		while (text(c.getMessages().at(-1)) !== "Hel") await new Promise((resolve) => setTimeout(resolve, 5));
		c.stop();
		await soon(sent, "the end");
		await soon(world.provider.requests("endless/tanstack")[0].closed, "the provider sees it");
	});

	test("after a cut it goes on exactly where it was", async () => {
		const way = await wire();
		const model = "gated/tanstack";
		const c = client(model, { url: way.url, body: { resumable: true } });
		const sent = c.sendMessage("hi");
		while (text(c.getMessages().at(-1)) !== "Hello") await new Promise((resolve) => setTimeout(resolve, 5));
		way.cut();
		while (way.connections < 2) await new Promise((resolve) => setTimeout(resolve, 5));
		world.provider.goOn(model);
		await soon(sent, "the rest of the answer");
		assert.equal(c.getError(), undefined);
		assert.equal(text(c.getMessages().at(-1)), "Hello world");
		assert.equal(c.getMessages().length, 2);
		assert.equal(world.provider.requests(model).length, 1);
		way.close();
	});
});
