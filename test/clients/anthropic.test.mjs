// Anthropic's own SDK, before and since its version 1, which shows its key in another header; and Claude Code.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { soon, start } from "./world.mjs";

let world;
before(async () => {
	world = await start();
});
after(() => world.stop());

const weather = { name: "weather", description: "The weather of a city", input_schema: { type: "object", properties: { city: { type: "string" } } } };

for (const version of ["anthropic-0", "anthropic-1"]) {
	describe(`${version}: Messages`, async () => {
		const { default: Anthropic } = await import(version);
		const client = () => new Anthropic({ baseURL: world.url, apiKey: world.key });
		const params = (model, more = {}) => ({
			model: `${model}/${version}`, max_tokens: 100, messages: [{ role: "user", content: "hi" }], ...more,
		});

		test("text, thinking and usage, streamed and whole", async () => {
			const final = await client().messages.stream(params("reasoning")).finalMessage();
			assert.deepEqual(final.content.map(({ type }) => type).slice(0, 2), ["thinking", "text"]);
			assert.equal(final.content[0].thinking, "Let me think.");
			assert.equal(final.content[1].text, "Hello");
			assert.equal(final.stop_reason, "end_turn");
			assert.equal(final.usage.output_tokens, 3);
			assert.equal(final.usage.input_tokens, 7);
			const whole = await client().messages.create(params("text", { system: "Be brief." }));
			assert.equal(whole.content[0].text, "Hello world");
			assert.equal(world.provider.requests(`text/${version}`)[0].body.messages[0].content, "Be brief.");
		});

		test("tools over two turns, with what the provider wants back", async () => {
			const messages = [{ role: "user", content: "How is it in Paris?" }];
			const first = await client().messages.stream(params("reasoning-tools", { messages, tools: [weather] })).finalMessage();
			assert.equal(first.stop_reason, "tool_use");
			const use = first.content.find(({ type }) => type === "tool_use");
			assert.deepEqual(use.input, { city: "Paris" });
			messages.push({ role: "assistant", content: first.content });
			messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "21 degrees" }] });
			const second = await client().messages.create(params("reasoning-tools", { messages, tools: [weather] }));
			assert.equal(second.content[0].text, "The tool says: 21 degrees.");
			const [, sent] = world.provider.requests(`reasoning-tools/${version}`)[1].body.messages;
			assert.equal(sent.reasoning_content, "I need a tool.");
		});

		test("errors before the answer and in it", async () => {
			for (const stream of [true, false]) {
				const model = `limited/${stream}`;
				await assert.rejects(client().messages.create(params(model, { stream })), (error) => {
					assert.ok(error instanceof Anthropic.RateLimitError, String(error));
					assert.ok(error.requestID);
					return true;
				});
				assert.equal(world.provider.requests(`${model}/${version}`).length, 3, "the relay's attempts, once");
			}
			await assert.rejects(new Anthropic({ baseURL: world.url, apiKey: "wrong" }).models.list(), (error) => error.status === 401);
			for (const model of ["error-in-stream", "cut"]) {
				let text = "";
				const stream = client().messages.stream(params(model)).on("text", (piece) => (text += piece));
				await assert.rejects(stream.finalMessage(), (error) => error instanceof Anthropic.APIError);
				assert.equal(text, "Hel");
			}
		});

		test("an abort reaches the provider", async () => {
			const stream = client().messages.stream(params("endless"));
			stream.on("text", () => stream.abort());
			await assert.rejects(stream.finalMessage());
			await soon(world.provider.requests(`endless/${version}`)[0].closed, "the provider sees that the client has left");
		});

		test("models", async () => {
			const ids = [];
			for await (const model of client().models.list()) ids.push(model.id);
			assert.deepEqual(ids, ["text/default"]);
		});
	});
}

/** Runs Claude Code once, in an empty home from which nothing but the relay can be reached. */
async function claude(model, prompt) {
	const home = await mkdtemp(join(tmpdir(), "claude-"));
	const nowhere = "http://127.0.0.1:9";
	try {
		const child = spawn(new URL("node_modules/.bin/claude", import.meta.url).pathname, ["-p", "--model", model, "--allowedTools", "Bash", "--", prompt], {
			cwd: home,
			env: {
				PATH: process.env.PATH, HOME: home, ANTHROPIC_BASE_URL: world.url, ANTHROPIC_AUTH_TOKEN: world.key,
				ANTHROPIC_SMALL_FAST_MODEL: "text/small", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1", DISABLE_AUTOUPDATER: "1",
				CLAUDE_CODE_MAX_RETRIES: "1", HTTP_PROXY: nowhere, HTTPS_PROXY: nowhere, NO_PROXY: "127.0.0.1",
			},
			stdio: ["ignore", "pipe", "pipe"],
			timeout: 60_000,
		});
		let stdout = "", stderr = "";
		child.stdout.on("data", (piece) => (stdout += piece));
		child.stderr.on("data", (piece) => (stderr += piece));
		const [code] = await once(child, "close");
		return { code, stdout, stderr };
	} finally {
		await rm(home, { recursive: true, force: true });
	}
}

test("Claude Code runs a command, and tells what came of it", async () => {
	const { code, stdout, stderr } = await claude("claude/run", "Compute it.");
	assert.match(stdout, /The tool says:[^]*relay-42/, stdout + stderr + world.log.join("\n"));
	assert.equal(code, 0);
});

test("Claude Code shows why an answer failed", async () => {
	const { code, stdout, stderr } = await claude("too-long/claude", "Say hello.");
	assert.notEqual(code, 0);
	assert.match(stdout + stderr, /too long|maximum context|context/i);
});
