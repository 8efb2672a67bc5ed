import { Retries } from './retries.js'
import { ChatStream } from './stream.js'
import { type Call, type ClientOptions, Transport } from './transport.js'
import type { ChatCompletion, ChatParams, ChatStreamParams } from './types.js'

/** The way to a relay, or to the hosted API, which speaks the same contract. */
export class WebsopyClient {
  readonly ai: AI

  constructor(options: ClientOptions = {}) {
    this.ai = new AI(new Transport(options))
  }
}

export class AI {
  readonly #transport: Transport

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport
  }

  /**
   * Starts a streamed answer. Resolves when the server has accepted the request; rejects with an
   * `APIError` when it refuses, a `ConnectionError` when it can't be reached, after retries.
   */
  async chatStream({ signal, ...body }: ChatStreamParams): Promise<ChatStream> {
    return ChatStream.open(this.#transport, post({ ...body, stream: true }), signal)
  }

  /**
   * Picks up a resumable stream that was started before, on this page or an earlier one: from its
   * beginning, or after `lastEventId`. Rejects with an `APIError` when the server has it no more.
   */
  async resumeStream(
    id: string,
    { lastEventId, signal }: { lastEventId?: string; signal?: AbortSignal } = {},
  ): Promise<ChatStream> {
    return ChatStream.open(this.#transport, { id, lastEventId }, signal)
  }

  /** Asks for a whole answer at once. Fails and retries as `chatStream` does. */
  async chat({ signal = new AbortController().signal, ...body }: ChatParams): Promise<ChatCompletion> {
    const { maxRetries, timeout = 600_000 } = this.#transport.options
    return this.#transport.send<ChatCompletion>(
      { ...post({ ...body, stream: false }), signal, timeout, accept: ({ response }) => response.json() },
      new Retries(maxRetries),
    )
  }
}

function post(body: object): Call {
  return {
    method: 'POST',
    path: '/v1/ai/chat/stream',
    headers: { 'content-type': 'application/json', 'idempotency-key': uniqueKey() },
    body: JSON.stringify(body),
  }
}

/** `randomUUID` is missing on pages without TLS, and `crypto` in some mini programs. */
function uniqueKey(): string {
  return (
    globalThis.crypto?.randomUUID?.() ??
    Array.from({ length: 3 }, () => Math.random().toString(36).slice(2)).join('')
  )
}
