// OpenAI's Codex, which speaks nothing but Responses.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { start } from "./world.mjs";

const codex = new URL("node_modules/.bin/codex", import.meta.url).pathname;

let world;
before(async () => {
	world = await start();
});
after(() => world.stop());

/** Runs codex without a terminal, in an empty home from which nothing but the relay can be reached. */
async function exec(model, prompt, settings = {}) {
	const home = await mkdtemp(join(tmpdir(), "codex-"));
	try {
		await writeFile(join(home, "config.toml"), `
			model = "${model}"
			model_provider = "relay"
			check_for_update_on_startup = false
			[analytics]
			enabled = false
			[model_providers.relay]
			name = "relay"
			base_url = "${world.url}/v1"
			env_key = "RELAY_KEY"
			wire_api = "responses"
			request_max_retries = ${settings.requestRetries ?? 1}
			stream_max_retries = ${settings.streamRetries ?? 0}
		`);
		const nowhere = "http://127.0.0.1:9";
		const child = spawn(codex, ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", "--cd", home, prompt], {
			env: {
				PATH: process.env.PATH, HOME: home, CODEX_HOME: home, RELAY_KEY: world.key,
				HTTP_PROXY: nowhere, HTTPS_PROXY: nowhere, NO_PROXY: "127.0.0.1",
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

test("runs a command, and tells what came of it", async () => {
	const { code, stdout, stderr } = await exec("codex/run", "Compute it.");
	assert.equal(code, 0, stderr);
	assert.match(stdout, /The tool says:[^]*relay-42/, stderr);
	const [first, second] = world.provider.requests("codex/run").map(({ body }) => body.messages);
	assert.equal(first[0].role, "system");
	assert.equal(second.at(-1).role, "tool");
	assert.match(second.at(-1).content, /relay-42/);
	assert.ok(!world.log.some((line) => line.includes("client_gone")), "it hangs up after the end, which is no abort");
});

test("shows why an answer failed", async () => {
	const { code, stderr } = await exec("error-in-stream/codex", "Say hello.");
	assert.notEqual(code, 0);
	assert.match(stderr, /The server had an error/);
	const limited = await exec("limited/codex", "Say hello.");
	assert.notEqual(limited.code, 0);
	assert.match(limited.stderr, /429|rate limit/i);
	const long = await exec("too-long/codex", "Say hello.");
	assert.notEqual(long.code, 0);
	assert.match(long.stderr, /context/i);
	assert.equal(world.provider.requests("too-long/codex").length, 1);
});
