import { type ChatStream, createStream, type StartingPoint } from './stream.js'
import { type ClientOptions, createTransport, type Transport } from './transport.js'
import type { ChatCompletion, ChatParams, ChatStreamParams } from './types.js'

/** The way to a relay, or to the hosted API, which speaks the same contract. */
export class WebsopyClient {
  readonly ai: AI

  constructor(options: ClientOptions = {}) {
    this.ai = createAI(createTransport(options))
  }
}

export interface AI {
  /**
   * Starts a streamed answer. Resolves when the server has accepted the request; rejects with an
   * `APIError` when it refuses, a `ConnectionError` when it can't be reached, after retries.
   */
  chatStream(params: ChatStreamParams): Promise<ChatStream>
  /**
   * Picks up a resumable stream that was started before, on this page or an earlier one: from its
   * beginning, or after `lastEventId`. Rejects with an `APIError` when the server has it no more.
   */
  resumeStream(
    id: string,
    options?: { lastEventId?: string | null; signal?: AbortSignal },
  ): Promise<ChatStream>
  /**
   * Asks for a whole answer. It comes as a resumable stream, so that neither a proxy's time-out nor a broken
   * connection loses it or asks twice.
   */
  chat(params: ChatParams): Promise<ChatCompletion>
  /**
   * As `chatStream`, before the server has accepted.
   * @internal
   */
  begin(params: ChatStreamParams): ChatStream
  /**
   * As `resumeStream`, before the server has answered.
   * @internal
   */
  pickUp(id: string, from?: StartingPoint): ChatStream
}

function createAI(transport: Transport): AI {
  const begin: AI['begin'] = ({ signal, idempotencyKey, lastEventId, ...params }) => {
    const question = { body: { ...params, stream: true }, key: idempotencyKey ?? uniqueKey() }
    return createStream(transport, question, { lastEventId, signal })
  }
  const pickUp: AI['pickUp'] = (id, from) => createStream(transport, id, from)

  return {
    begin,
    pickUp,
    chatStream: async (params) => begin(params).opened,
    resumeStream: async (id, options) => pickUp(id, options).opened,
    chat: async (params) => (await begin({ ...params, resumable: true }).opened).completion(),
  }
}

/**
 * On an open relay a key counts only if nobody can guess it: a UUID, or at least 32 characters.
 * `randomUUID` is missing on pages without TLS, and `crypto` in some mini programs.
 */
export function uniqueKey(): string {
  return globalThis.crypto?.randomUUID?.() ?? [1, 2, 3, 4, 5].map(Math.random).join('')
}
