import { ChatStream } from './stream.js'
import { type ClientOptions, Transport } from './transport.js'
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
  async chatStream(params: ChatStreamParams): Promise<ChatStream> {
    return this.begin(params).opened
  }

  /**
   * Picks up a resumable stream that was started before, on this page or an earlier one: from its
   * beginning, or after `lastEventId`. Rejects with an `APIError` when the server has it no more.
   */
  async resumeStream(
    id: string,
    { lastEventId, signal }: { lastEventId?: string | null; signal?: AbortSignal } = {},
  ): Promise<ChatStream> {
    return this.pickUp(id, lastEventId, signal).opened
  }

  /**
   * Asks for a whole answer. It comes as a resumable stream, so that neither a proxy's time-out nor a broken
   * connection loses it or asks twice.
   */
  async chat(params: ChatParams): Promise<ChatCompletion> {
    return this.begin({ ...params, resumable: true }).opened.then((stream) => stream.completion())
  }

  /**
   * As `chatStream`, before the server has accepted.
   * @internal
   */
  begin({ signal, idempotencyKey, lastEventId, ...params }: ChatStreamParams): ChatStream {
    const body = { ...params, stream: true }
    return new ChatStream(
      this.#transport,
      {
        body,
        headers: {
          'content-type': 'application/json',
          'idempotency-key': idempotencyKey ?? uniqueKey(),
        },
      },
      lastEventId,
      signal,
    )
  }

  /**
   * As `resumeStream`, before the server has answered.
   * @internal
   */
  pickUp(id: string, lastEventId?: string | null, signal?: AbortSignal): ChatStream {
    return new ChatStream(this.#transport, id, lastEventId, signal)
  }
}

/**
 * On an open relay a key counts only if nobody can guess it: a UUID, or at least 32 characters.
 * `randomUUID` is missing on pages without TLS, and `crypto` in some mini programs.
 */
export function uniqueKey(): string {
  return globalThis.crypto?.randomUUID?.() ?? Array.from({ length: 5 }, Math.random).join('')
}
