// useChat of three releases in Chromium, under StrictMode with React 19: a page that is reloaded in the midst of an
// answer loses nothing and doubles nothing, on one relay and from one replica to another.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { start } from "../world.mjs";

const program = (name) => {
	try {
		return execFileSync("which", [name], { encoding: "utf8" }).trim();
	} catch {
		if (process.env.CI === "true") throw new Error(`${name} is not on PATH`);
		return undefined;
	}
};
const missing = ["chromium", "redis-server"].filter((name) => !program(name));

const app = (sdk, ai) => `
import { StrictMode, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "${sdk}";
import { DefaultChatTransport } from "${ai}";

const { relay, key, model, keep } = Object.fromEntries(new URLSearchParams(location.search));
const id = "chat-" + model.replace("/", "-") + "-0123456789";
const kept = JSON.parse(localStorage.getItem(id) ?? "[]");
const transport = new DefaultChatTransport({
	api: relay + "/api/chat", headers: { Authorization: "Bearer " + key }, body: { model, resumable: true },
});

function Chat() {
	const { messages, status, error, sendMessage } = useChat({ id, messages: kept, transport, resume: true });
	useEffect(() => {
		const stored = keep === "parts" || status === "ready" ? messages : messages.filter(({ role }) => role === "user");
		if (stored.length > 0) localStorage.setItem(id, JSON.stringify(stored));
	}, [messages, status]);
	const text = ({ parts }) => parts.filter(({ type }) => type === "text").map(({ text }) => text).join("|");
	return <>
		{messages.map((m) => <p key={m.id}>{m.role}: {text(m)}</p>)}
		<output>{status}{error ? ": " + error.message : ""}</output>
		<button onClick={() => sendMessage({ text: "hi" })}>Send</button>
	</>;
}
createRoot(document.getElementById("root")).render(<StrictMode><Chat /></StrictMode>);
`;

async function bundle(sdk, ai) {
	const { outputFiles } = await build({
		stdin: { contents: app(sdk, ai), resolveDir: import.meta.dirname, loader: "jsx" },
		bundle: true, write: false, format: "esm", jsx: "automatic", define: { "process.env.NODE_ENV": '"development"' },
	});
	return outputFiles[0].text;
}

/** A server of pages, one for each release. */
async function site(pages) {
	const server = createServer(({ url }, res) => {
		const [, name, script] = url.split(/[/?]/);
		res.setHeader("Content-Type", script === "app.js" ? "text/javascript" : "text/html");
		res.end(script === "app.js" ? pages[name] : `<!doctype html><link rel="icon" href="data:,"><div id="root"></div><script type="module" src="/${name}/app.js"></script>`);
	}).listen(0, "127.0.0.1");
	await once(server, "listening");
	return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

async function startRedis() {
	// Below the ports that systems give to who asks for any: one of those may be another program's by then.
	const port = randomInt(10_000, 32_768);
	const dir = mkdtempSync(join(tmpdir(), "relay-redis-"));
	const redis = spawn("redis-server", ["--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", ""], { stdio: ["ignore", "pipe", "ignore"] });
	let said = "";
	for await (const piece of redis.stdout.iterator({ destroyOnReturn: false })) {
		said += piece;
		if (said.includes("Ready to accept")) break;
	}
	if (!said.includes("Ready to accept")) return startRedis();
	redis.stdout.resume();
	return {
		url: `redis://127.0.0.1:${port}`,
		async stop() {
			redis.kill("SIGKILL");
			await once(redis, "exit");
			rmSync(dir, { recursive: true });
		},
	};
}

describe("useChat in Chromium", { skip: missing.length > 0 && `there is no ${missing.join(" and no ")}` }, () => {
	const releases = { 5: ["ai-sdk-react-2", "ai-5"], 6: ["ai-sdk-react-3", "ai-6"], 7: ["ai-sdk-react-4", "ai-7"] };
	let browser, pages, redis, one, replicas;
	before(async () => {
		const scripts = {};
		for (const [version, packages] of Object.entries(releases)) scripts[version] = await bundle(...packages);
		pages = await site(scripts);
		redis = await startRedis();
		const settings = { RELAY_CORS_ORIGINS: pages.url };
		one = await start(settings);
		const shared = { ...settings, RELAY_STORE: "redis", RELAY_REDIS_URL: redis.url, UPSTREAM_BASE_URL: one.provider.url };
		replicas = [await start(shared), await start(shared)];
		browser = await chromium.launch({ executablePath: program("chromium"), args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
	});
	after(async () => {
		await browser?.close();
		for (const relay of [one, ...(replicas ?? [])]) await relay?.stop();
		await redis?.stop();
		pages?.close();
	});

	/** Reloads a page in the midst of an answer, perhaps from another relay, and again when it has ended. */
	async function reload(version, model, keep, first, second) {
		const context = await browser.newContext();
		const page = await context.newPage();
		const complaints = [];
		page.on("pageerror", (error) => complaints.push(String(error)));
		page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
		const at = (relay) => `${pages.url}/${version}/?${new URLSearchParams({ relay: relay.url, key: relay.key, model, keep })}`;
		const shows = async (...lines) => {
			await page.waitForFunction((want) => document.getElementById("root").innerText.includes(want), lines.at(-1), { timeout: 15_000 });
			assert.deepEqual(await page.locator("p").allInnerTexts(), lines);
		};
		const status = (want) => page.waitForFunction((want) => document.querySelector("output")?.innerText === want, want, { timeout: 15_000 });

		await page.goto(at(first));
		await page.getByText("Send").click();
		await shows("user: hi", "assistant: Hello");
		await page.goto(at(second));
		await shows("user: hi", "assistant: Hello");
		one.provider.goOn(model);
		await shows("user: hi", "assistant: Hello world");
		await status("ready");
		await page.reload();
		await shows("user: hi", "assistant: Hello world");
		await page.waitForLoadState("networkidle");
		await status("ready");
		await shows("user: hi", "assistant: Hello world");
		assert.deepEqual(complaints, []);
		assert.equal(one.provider.requests(model).length, 1, "the provider was asked once");
		await context.close();
	}

	for (const version of Object.keys(releases)) {
		for (const keep of ["parts", "answers"]) {
			test(`AI SDK ${version}, a page that keeps ${keep}: reloaded`, () => reload(version, `gated/${version}-${keep}`, keep, one, one));
		}
		test(`AI SDK ${version}: from one replica to another`, () => reload(version, `gated/${version}-replicas`, "parts", ...replicas));
	}
});
