// The relay's binary with a provider behind it, for tests of programs in front of it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";

const binary = process.env.RELAY ?? new URL("../../bin/relay", import.meta.url).pathname;

/** A provider in OpenAI's format. The name of the model says how it behaves, up to the first slash. */
export class Provider {
	#server = createServer((req, res) => this.#answer(req, res));
	#requests = new Map();

	async start() {
		this.#server.listen(0, "127.0.0.1");
		await once(this.#server, "listening");
		this.url = `http://127.0.0.1:${this.#server.address().port}/v1`;
		return this;
	}

	async stop() {
		this.#server.closeAllConnections();
		this.#server.close();
		await once(this.#server, "close");
	}

	/** The requests for a model, in order: the body, and a promise of the moment when the relay has left. */
	requests(model) {
		return this.#requests.get(model) ?? [];
	}

	/** Tells another process of the requests for a model. */
	#tell(req, res) {
		const requests = this.requests(decodeURIComponent(req.url.replace("/v1/requests/", "")));
		res.end(JSON.stringify({ bodies: requests.map(({ body }) => body), left: requests.filter(({ left }) => left).length }));
	}

	/** Lets the answers of the model gated/NAME go on. */
	goOn(model) {
		gate(model).resolve();
	}

	async #answer(req, res) {
		if (req.method === "GET") return this.#tell(req, res);
		let text = "";
		for await (const piece of req) text += piece;
		const body = JSON.parse(text);
		const request = { body, closed: once(res, "close"), left: false };
		request.closed.then(() => (request.left = !res.writableFinished));
		this.#requests.set(body.model, [...this.requests(body.model), request]);
		const behave = behaviours[body.model.split("/")[0]];
		if (!behave) return refuse(res, 404, { message: `no model ${body.model}`, type: "invalid_request_error", code: "model_not_found" });
		await behave(new Answer(res), body);
	}
}

const gates = new Map();

function gate(model) {
	if (!gates.has(model)) gates.set(model, Promise.withResolvers());
	const { promise: open, resolve } = gates.get(model);
	return { open, resolve };
}

class Answer {
	constructor(res) {
		this.res = res;
	}
	frame(value) {
		if (!this.res.headersSent) this.res.writeHead(200, { "Content-Type": "text/event-stream" });
		this.res.write(`data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`);
	}
	delta(delta, finish_reason = null) {
		this.frame({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m-1", choices: [{ index: 0, delta, finish_reason }] });
	}
	text(...words) {
		for (const content of words) this.delta({ content });
	}
	end(reason = "stop") {
		this.delta({}, reason);
		this.frame({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 } });
		this.frame("[DONE]");
		this.res.end();
	}
}

function refuse(res, status, error, headers = {}) {
	res.writeHead(status, { "Content-Type": "application/json", ...headers });
	res.end(JSON.stringify({ error }));
}

/** The result of a tool is told in the answer, so that a test sees what came of it. */
function useTool(answer, body, before) {
	const last = body.messages.at(-1);
	if (last.role === "tool") {
		answer.text("The tool says: ", last.content, ".");
		return answer.end();
	}
	const [tool] = body.tools ?? [];
	before?.();
	answer.delta({
		role: "assistant",
		tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: tool?.function.name ?? "none", arguments: "" } }],
	});
	for (const piece of ['{"city":', '"Paris"}']) answer.delta({ tool_calls: [{ index: 0, function: { arguments: piece } }] });
	answer.end("tool_calls");
}

const behaviours = {
	text(answer) {
		answer.text("Hel", "lo", " world");
		answer.end();
	},
	reasoning(answer) {
		answer.delta({ reasoning_content: "Let me " });
		answer.delta({ reasoning_content: "think." });
		answer.text("Hel", "lo");
		answer.end();
	},
	tools: (answer, body) => useTool(answer, body),
	"reasoning-tools": (answer, body) => useTool(answer, body, () => answer.delta({ reasoning_content: "I need a tool." })),
	/** Stops in the midst of the answer to the tool's result, until a test lets it go on. */
	async "gated-tools"(answer, body) {
		if (body.messages.at(-1).role !== "tool") return useTool(answer, body);
		answer.text("The tool");
		await gate(body.model).open;
		answer.text(" says: ", body.messages.at(-1).content, ".");
		answer.end();
	},
	/** Has Codex run a command, by whichever tool it offers for that. */
	codex(answer, body) {
		if (body.messages.at(-1).role === "tool") return useTool(answer, body);
		const tool = body.tools.find(({ function: { name } }) => ["exec_command", "shell", "shell_command", "local_shell"].includes(name));
		const command = "echo relay-$((6*7))";
		const { properties } = tool.function.parameters;
		const args = properties.cmd ? { cmd: command } : { command: properties.command.type === "array" ? ["sh", "-c", command] : command };
		answer.delta({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: tool.function.name, arguments: JSON.stringify(args) } }] });
		answer.end("tool_calls");
	},
	/** Has Claude Code run a command. */
	claude(answer, body) {
		if (body.messages.at(-1).role === "tool" || body.messages.at(-2)?.role === "tool") {
			const result = body.messages.findLast(({ role }) => role === "tool");
			return useTool(answer, { messages: [result] });
		}
		if (!body.tools?.some((tool) => tool.function.name === "Bash")) return behaviours.text(answer);
		const args = JSON.stringify({ command: "echo relay-$((6*7))", description: "Compute" });
		answer.delta({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "Bash", arguments: args } }] });
		answer.end("tool_calls");
	},
	length(answer) {
		answer.text("Once upon");
		answer.end("length");
	},
	limited: ({ res }) =>
		refuse(res, 429, { message: "Rate limit reached", type: "requests", code: "rate_limit_exceeded" }, { "Retry-After": "0" }),
	"too-long": ({ res }) =>
		refuse(res, 400, { message: "This model's maximum context length is 8 tokens.", type: "invalid_request_error", code: "context_length_exceeded" }),
	"error-in-stream"(answer) {
		answer.text("Hel");
		answer.frame({ error: { message: "The server had an error", type: "server_error", code: null } });
		answer.res.end();
	},
	cut(answer) {
		answer.text("Hel");
		setTimeout(() => answer.res.destroy(), 50);
	},
	endless(answer) {
		answer.text("Hel");
	},
	/** Goes on when a test lets it, see Provider.goOn. */
	async gated(answer, { model }) {
		answer.text("Hel", "lo");
		await gate(model).open;
		answer.text(" wor", "ld");
		answer.end();
	},
};

/** Starts the relay in front of a provider of its own. */
export async function start(settings = {}) {
	const provider = await new Provider().start();
	const relay = spawn(binary, {
		env: {
			PATH: process.env.PATH, HOME: process.env.HOME, RELAY_ADDR: "127.0.0.1:0", RELAY_ADMIN_ADDR: "", RELAY_LOG_FORMAT: "json",
			UPSTREAM_KIND: "openai", UPSTREAM_BASE_URL: provider.url, UPSTREAM_API_KEY: "provider-key", UPSTREAM_MODEL: "text/default",
			RELAY_API_KEYS: "test:relay-key", ...settings,
		},
		stdio: ["ignore", "ignore", "pipe"],
	});
	const exited = once(relay, "exit");
	const log = [];
	const address = new Promise((resolve, reject) => {
		createInterface({ input: relay.stderr }).on("line", (line) => {
			log.push(line);
			if (line.includes('"message":"listening"')) resolve(JSON.parse(line).addr);
		});
		exited.then(() => reject(new Error(`the relay exited:\n${log.join("\n")}`)));
	});
	return {
		provider, log, key: "relay-key", url: `http://${await address}`,
		/** Ends the relay at once, with all of its connections. */
		async kill() {
			relay.kill("SIGKILL");
			await exited;
		},
		async stop() {
			relay.kill("SIGKILL");
			await exited;
			await provider.stop();
		},
	};
}

/** A tool as Chat Completions has it. */
export const weather = {
	type: "function",
	function: { name: "weather", description: "The weather of a city", parameters: { type: "object", properties: { city: { type: "string" } } } },
};

/** Waits for what a promise brings, but not for ever. */
export async function soon(promise, what) {
	let timer;
	const late = new Promise((_, reject) => {
		timer = setTimeout(() => reject(new Error(`too late: ${what}`)), 15_000);
	});
	try {
		return await Promise.race([promise, late]);
	} finally {
		clearTimeout(timer);
	}
}
