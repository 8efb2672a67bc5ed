import { APIError, connectionFailure, StreamError, WebsopyError } from './errors.js'
import { createRetries, longestWait, type Retries } from './retries.js'
import { eventDecoder } from './sse.js'
import type { Connection, Transport } from './transport.js'
import type { Message, StreamChunk } from './types.js'
import { within } from './wait.js'

/** What a finished stream's connection may still send, before it is closed instead of kept. */
const drainTime = 1000

const frameTypes = /^(content|reasoning|tool_call|done|error|start|ping)$/

/** One frame of the stream, with its position where it has one that the relay gave. */
export interface Frame {
  chunk: StreamChunk | { type: 'start'; id: string; graceMs: number; retentionMs: number } | { type: 'ping' }
  id: string | undefined
}

/** The request that starts a stream. */
export interface Question {
  body: { messages: Message[]; resumable?: boolean | undefined }
  /** By which the server knows a question that comes again. */
  key: string
}

export const isChunk = (chunk: Frame['chunk']): chunk is StreamChunk => !/^(start|ping)$/.test(chunk.type)

/** The path of a resumable stream (docs/protocol.md, 1). */
const streamPath = (id: string): string => `/api/chat/stream/${encodeURIComponent(id)}`

/** How one stream is received. */
export interface Receiver {
  /** The stream's id on the server, once known; only a resumable stream has one. */
  readonly id: string | undefined
  /** The question is on its way or has been answered, and the stream may have an id that is not known yet. */
  readonly nameless: boolean | undefined
  readonly retries: Retries
  /** Resolves at the response headers. */
  connect: () => Promise<void>
  /** Gives the frames to the end. Throws when the stream is broken for good. */
  frames: () => AsyncGenerator<Frame, void>
  /** Ends the generation, if there is one that has an id. */
  stop: () => Promise<void>
}

/**
 * Receives one stream, over as many connections as it takes: no chunk is lost and none comes twice.
 *
 * Once the server has answered, the stream can only be resumed: a second answer would be another text,
 * and would be billed again.
 *
 * Takes the question, or the id of a stream that was started before, and the position of the last chunk that
 * was received of it. `notify` is told of what broke the connection, and of nothing when there is one again.
 */
export function createReceiver(
  { maxRetries, idleTimeout, send }: Transport,
  start: Question | string,
  lastEventId: string | null | undefined,
  signal: AbortSignal,
  notify: (error?: WebsopyError) => void,
): Receiver {
  const retries = createRetries(maxRetries, notify)
  let id: string | undefined
  let question: Question | undefined
  let keeps = 11 * longestWait
  let started = false
  let connection: Connection | undefined

  if (typeof start === 'string') {
    id = start
    retries.persist(longestWait)
  } else question = start
  signal.addEventListener('abort', () => connection?.abort())

  async function connect(): Promise<void> {
    try {
      await request()
    } catch (error) {
      const body = question?.body
      if ((error as APIError).status !== 413 || !body?.messages.some(({ state }) => state)) throw error
      // What providers want back makes conversations long, and answers are possible without it.
      body.messages = body.messages.map(({ state, ...message }) => message)
      await request()
    }
  }

  async function request(): Promise<void> {
    const asked = id ? undefined : question
    await send(
      {
        method: asked ? 'POST' : 'GET',
        path: asked ? '/v1/ai/chat/stream' : streamPath(id!),
        body: asked && JSON.stringify(asked.body),
        headers: {
          ...(asked && { 'content-type': 'application/json', 'idempotency-key': asked.key }),
          ...(lastEventId && { 'last-event-id': lastEventId }),
          accept: 'text/event-stream',
        },
        signal,
        repeatable: !asked || asked.body.resumable || lastEventId,
        accept: (accepted) => {
          connection = eventStream(accepted)
        },
      },
      retries,
    )
    // Another origin's header is hidden unless exposed; then the `start` frame tells.
    id ??= connection!.response.headers.get('x-stream-id') ?? lastEventId?.replace(/\.\d+$/, '')
    if (retries.used) notify()
  }

  async function* frames(): AsyncGenerator<Frame, void> {
    for (;;) {
      const broken = yield* read(connection!)
      if (!broken) return
      if (!id) throw broken
      retries.persist(keeps)
      await retries.wait(broken, signal)
      await request()
    }
  }

  async function stop(): Promise<void> {
    if (!id) return
    await send(
      {
        method: 'POST',
        path: `${streamPath(id)}/stop`,
        signal: new AbortController().signal,
        repeatable: true,
        accept: ({ abort }) => abort(),
      },
      createRetries(maxRetries),
    )
  }

  /** Reads one connection. Returns what broke it, or nothing when the stream is complete. */
  async function* read({ response, abort }: Connection): AsyncGenerator<Frame, WebsopyError | undefined> {
    // The cursor is at the end: everything has been received before.
    if (response.status === 204) return
    const reader = response.body!.getReader()
    const decode = eventDecoder((retry) => {
      retries.pause = Math.min(retry, longestWait)
    })
    let failed = false
    try {
      for (;;) {
        const { done, value } = await within(reader.read(), idleTimeout || Infinity, 'idle', signal)
        if (done) throw broken()
        for (const { data, id } of decode(value)) {
          // The server has the stream: what was tried before does not count any more.
          retries.until = 0
          if (data === '[DONE]') return
          const frame = take(data, id)
          if (frame) yield frame
        }
      }
    } catch (error) {
      failed = true
      return broken(error)
    } finally {
      // Not awaited: whoever waits for the end of the answer need not wait for the connection.
      if (failed || signal.aborted) abort()
      else void drain(reader, abort)
    }
  }

  /** Reads an event, if it is a frame of ours that has not been received before. */
  function take(data: string, eventId: string | undefined): Frame | undefined {
    // A keep-alive of something in between: nothing, or a bare word.
    if (/^[\w\s:.-]*$/.test(data)) return
    let chunk: Frame['chunk']
    try {
      chunk = Object(JSON.parse(data))
    } catch {
      throw new StreamError({ error: 'A frame is not JSON', code: 'malformed_frame' })
    }
    if (!frameTypes.test(chunk.type)) return
    if (chunk.type === 'start' && chunk.id) {
      id = chunk.id
      keeps = chunk.graceMs + chunk.retentionMs || keeps
    }
    // Another server's ids say nothing of what has been seen.
    const position = eventId?.startsWith(`${id}.`) ? eventId : undefined
    if (position) {
      // The end may come once more, for those who ask again at the end.
      if (sequence(position) <= sequence(lastEventId ?? '.-1') && !/^(done|error)$/.test(chunk.type)) return
      lastEventId = position
    }
    if (isChunk(chunk)) {
      started = true
      retries.used = 0
    }
    return { chunk, id: position }
  }

  return {
    get id() {
      return id
    },
    get nameless() {
      return !id && !started && !retries.waiting && question?.body.resumable
    },
    retries,
    connect,
    frames,
    stop,
  }
}

const broken = (cause?: unknown): WebsopyError => connectionFailure('The connection broke', cause)

/** The position in an id of the form `<stream>.<position>`. */
const sequence = (id: string): number => Number(id.split('.').pop())

/** A page where a stream should be is most often a wrong address behind a catch-all route. */
function eventStream(connection: Connection): Connection {
  const { status, headers, body } = connection.response
  const type = headers.get('content-type')
  if (type && !type.includes('text/event-stream')) {
    connection.abort()
    throw new APIError(`The server answered with ${type}, not an event stream`, {
      status,
      code: 'not_a_stream',
    })
  }
  if (status !== 204 && typeof body?.getReader !== 'function') {
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
