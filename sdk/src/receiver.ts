import { AbortError, APIError, ConnectionError, StreamError, WebsopyError } from './errors.js'
import { longestWait, Retries } from './retries.js'
import { EventDecoder } from './sse.js'
import type { Connection, Transport } from './transport.js'
import type { Message, StreamChunk } from './types.js'
import { within } from './wait.js'

/** What a finished stream's connection may still send, before it is closed instead of kept. */
const drainTime = 1000

const frameTypes = ['content', 'reasoning', 'tool_call', 'done', 'error', 'start', 'ping']

/** One frame of the stream, with its position where it has one that the relay gave. */
export interface Frame {
  chunk:
    | StreamChunk
    | { type: 'start'; id: string; graceMs?: number; retentionMs?: number }
    | { type: 'ping' }
  id: string | undefined
}

/** The request that starts a stream. */
export interface Question {
  body: { messages: Message[]; resumable?: boolean | undefined }
  headers: Record<string, string>
}

export const isChunk = (chunk: Frame['chunk']): chunk is StreamChunk => !/^(start|ping)$/.test(chunk.type)

/** The path of a resumable stream (docs/protocol.md, 1). */
const streamPath = (id: string): string => `/api/chat/stream/${encodeURIComponent(id)}`

/**
 * Receives one stream, over as many connections as it takes: no chunk is lost and none comes twice.
 *
 * Once the server has answered, the stream can only be resumed: a second answer would be another text,
 * and would be billed again.
 */
export class Receiver {
  /** The stream's id on the server, once known; only a resumable stream has one. */
  id: string | undefined
  readonly retries: Retries
  #keeps = 11 * longestWait
  #started = false
  #connection: Connection | undefined
  /** Told of what broke the connection, and of nothing when there is one again. */
  readonly #notify: (error?: WebsopyError) => void
  readonly #transport: Transport
  readonly #signal: AbortSignal
  #question: Question | undefined

  /** Takes the question, or the id of a stream that was started before, and where to read on in it. */
  constructor(
    transport: Transport,
    start: Question | string,
    /** The position of the last chunk received from a resumable stream. */
    public lastEventId: string | null | undefined,
    signal: AbortSignal,
    notify: (error?: WebsopyError) => void,
  ) {
    this.#transport = transport
    this.#signal = signal
    this.#notify = notify
    this.retries = new Retries(transport.options.maxRetries, notify)
    if (typeof start === 'string') {
      this.id = start
      this.retries.persist(longestWait)
    } else this.#question = start
    signal.addEventListener('abort', () => this.#connection?.abort())
  }

  /** Whether it may have an id that is not known yet, or has one. */
  get resumable(): boolean {
    return Boolean(this.id ?? (!this.#started && this.#question?.body.resumable))
  }

  /** Resolves at the response headers. */
  async connect(): Promise<void> {
    try {
      await this.#connect()
    } catch (error) {
      const messages = this.#question?.body.messages
      if ((error as APIError).status !== 413 || !messages?.some(({ state }) => state)) throw error
      // What providers want back makes conversations long, and answers are possible without it.
      const lean = messages.map(({ state, ...message }) => message)
      this.#question = { ...this.#question!, body: { ...this.#question!.body, messages: lean } }
      await this.#connect()
    }
  }

  async #connect(): Promise<void> {
    const { id, lastEventId, retries } = this
    const question = id ? undefined : this.#question!
    this.#connection = await this.#transport.send(
      {
        method: question ? 'POST' : 'GET',
        path: question ? '/v1/ai/chat/stream' : streamPath(id!),
        ...(question && { body: JSON.stringify(question.body) }),
        headers: {
          ...question?.headers,
          ...(lastEventId && { 'last-event-id': lastEventId }),
          accept: 'text/event-stream',
        },
        signal: this.#signal,
        repeatable: !question || Boolean(question.body.resumable || lastEventId),
        accept: eventStream,
      },
      retries,
    )
    if (this.#signal.aborted) {
      this.#connection.abort()
      throw new AbortError(this.#signal.reason)
    }
    // Another origin's header is hidden unless exposed; then the `start` frame tells.
    this.id ??= this.#connection.response.headers.get('x-stream-id') ?? lastEventId?.replace(/\.\d+$/, '')
    if (retries.used) this.#notify()
  }

  /** Gives the frames to the end. Throws when the stream is broken for good. */
  async *frames(): AsyncGenerator<Frame, void> {
    for (;;) {
      const broken = yield* this.#read(this.#connection!)
      if (!broken) return
      if (!this.id) throw broken
      this.retries.persist(this.#keeps)
      await this.retries.wait(broken, this.#signal)
      await this.#connect()
    }
  }

  /** Ends the generation, if there is one that has an id. */
  async stop(): Promise<void> {
    if (!this.id) return
    const { maxRetries } = this.#transport.options
    const path = `${streamPath(this.id)}/stop`
    await this.#transport.send(
      { method: 'POST', path, repeatable: true, accept: ({ abort }) => abort() },
      new Retries(maxRetries),
    )
  }

  /** Reads one connection. Returns what broke it, or nothing when the stream is complete. */
  async *#read({ response, abort }: Connection): AsyncGenerator<Frame, WebsopyError | undefined> {
    // The cursor is at the end: everything has been received before.
    if (response.status === 204) return
    const reader = response.body!.getReader()
    const decoder = new EventDecoder()
    const ms = (this.#transport.options.idleTimeout ?? 60_000) || undefined
    let failed = false
    try {
      for (;;) {
        const { done, value } = await within(reader.read(), ms, 'idle', this.#signal)
        if (done) throw broken()
        const events = decoder.decode(value)
        // The server has the stream: what was tried before does not count any more.
        if (events[0]) this.retries.until = 0
        this.retries.pause = Math.min(decoder.retry ?? this.retries.pause, longestWait)
        for (const { data, id } of events) {
          if (data === '[DONE]') return
          const frame = this.#take(data, id)
          if (frame) yield frame
        }
      }
    } catch (error) {
      failed = true
      return broken(error)
    } finally {
      // Not awaited: whoever waits for the end of the answer need not wait for the connection.
      if (failed || this.#signal.aborted) abort()
      else void drain(reader, abort)
    }
  }

  /** Reads an event, if it is a frame of ours that has not been received before. */
  #take(data: string, eventId: string | undefined): Frame | undefined {
    // A keep-alive of something in between: nothing, or a bare word.
    if (/^[\w\s:.-]*$/.test(data)) return
    let chunk: Frame['chunk'] | null
    try {
      chunk = JSON.parse(data)
    } catch {
      throw new StreamError({ error: 'A frame is not JSON', code: 'malformed_frame' })
    }
    const { type = '' } = chunk ?? {}
    if (!chunk || !frameTypes.includes(type)) return
    if (chunk.type === 'start' && chunk.id) {
      this.id = chunk.id
      this.#keeps = (chunk.graceMs ?? longestWait) + (chunk.retentionMs ?? 10 * longestWait)
    }
    // Another server's ids say nothing of what has been seen.
    const id = eventId?.startsWith(`${this.id}.`) ? eventId : undefined
    if (id) {
      // The end may come once more, for those who ask again at the end.
      if (sequence(id) <= sequence(this.lastEventId ?? '.-1') && !/^(done|error)$/.test(type)) return
      this.lastEventId = id
    }
    if (isChunk(chunk)) {
      this.#started = true
      this.retries.used = 0
    }
    return { chunk, id }
  }
}

const broken = (cause?: unknown): WebsopyError =>
  cause instanceof WebsopyError ? cause : new ConnectionError('The connection broke', cause)

/** The position in an id of the form `<stream>.<position>`. */
const sequence = (id: string): number => Number(id.slice(id.lastIndexOf('.') + 1))

/** A page where a stream should be is most often a wrong address behind a catch-all route. */
function eventStream(connection: Connection): Connection {
  const { status, headers, body } = connection.response
  if (status === 204) return connection
  const type = headers.get('content-type')
  if (type && !type.includes('text/event-stream')) {
    connection.abort()
    throw new APIError(`The server answered with ${type}, not an event stream`, {
      status,
      code: 'not_a_stream',
    })
  }
  if (typeof body?.getReader !== 'function') {
    throw new WebsopyError('This fetch cannot stream. In React Native, pass fetch from "expo/fetch".', {
      code: 'no_body_stream',
    })
  }
  return connection
}

/** Reads what follows the terminal, so that the connection can serve the next request. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>, abort: () => void): Promise<void> {
  const timer = setTimeout(abort, drainTime)
  try {
    while (!(await reader.read()).done);
  } catch {
    // The answer is complete; what happens to the connection now is nobody's concern.
  } finally {
    clearTimeout(timer)
  }
}
