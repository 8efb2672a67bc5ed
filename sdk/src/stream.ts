import { Answer, wireMessage } from './answer.js'
import {
  AbortError,
  APIError,
  ConnectionError,
  call,
  StreamError,
  StreamInterruptedError,
  type TimeoutError,
  type WebsopyError,
} from './errors.js'
import { createReceiver, type Frame, isChunk, type Question } from './receiver.js'
import type { Transport } from './transport.js'
import type { ChatCompletion, Message, StreamChunk } from './types.js'

export interface StreamEvents {
  /** Every chunk from the first on, however late one listens. Listening makes the stream flow. */
  data: (chunk: StreamChunk) => void
  /** The answer failed or was cut off. An abort is not an error. */
  error: (error: WebsopyError) => void
  abort: (error: AbortError) => void
  /** The connection broke, or there is none yet, and the stream is being picked up. */
  reconnecting: (error: WebsopyError) => void
  /** There is a connection again. */
  reconnected: () => void
  /** However it ended: once, and last. */
  end: () => void
}

/**
 * A streamed answer.
 *
 * One log of chunks serves any number of consumers, each from the beginning. A loop pulls: the
 * server is read no faster than the fastest consumer asks. `on('data')` and `text()` pull all the time.
 */
export interface ChatStream extends AsyncIterable<StreamChunk> {
  /** The stream's id on the server, if it is resumable: what `resumeStream` takes. */
  readonly id: string | undefined
  /** The position of the last chunk received, if the stream is resumable. */
  readonly lastEventId: string | undefined
  /**
   * Resolves at the response headers, after retries.
   * @internal
   */
  readonly opened: Promise<ChatStream>
  /**
   * What has come so far.
   * @internal
   */
  readonly answer: Answer
  /**
   * Gives every chunk from the first on, then ends; or throws, after the chunks that came before
   * the failure. Leaving the loop aborts the stream, unless somebody else is still reading it.
   */
  [Symbol.asyncIterator](): AsyncGenerator<StreamChunk, void, undefined>
  on<E extends keyof StreamEvents>(event: E, listener: StreamEvents[E]): this
  once<E extends keyof StreamEvents>(event: E, listener: StreamEvents[E]): this
  off<E extends keyof StreamEvents>(event: E, listener: StreamEvents[E]): this
  /** The whole text of the answer; rejects when it fails or is aborted. */
  text(): Promise<string>
  /** The whole answer; rejects when it fails or is aborted. */
  completion(): Promise<ChatCompletion>
  /** The answer as the assistant's message, with its calls and state: append it to `messages`. */
  message(): Promise<Message>
  /** Ends the stream here and now with an `AbortError`. */
  abort(reason?: unknown): void
  /**
   * The user has read enough: ends the stream with `done` and the finish reason `stopped`, at once.
   * The promise is the server's word that a resumable stream is not generated any further.
   */
  stop(): Promise<void>
  /**
   * The stream as the bytes of an event stream, for passing it on: `new Response(stream.toReadableStream())`
   * from a server's route is what the SDK can read in the browser. Cancelling it aborts the stream.
   */
  toReadableStream(): ReadableStream<Uint8Array>
}

interface Listener {
  event: keyof StreamEvents
  call: (value: never) => void
  once?: boolean
}

/** Where a stream goes on: an earlier stream of the same answer is one. */
export interface StartingPoint {
  lastEventId?: string | null | undefined
  signal?: AbortSignal | undefined
  /** What came before. */
  answer?: Answer
}

/** Asks, or picks up the stream with an id. */
export function createStream(
  transport: Transport,
  start: Question | string,
  { lastEventId, signal, answer = new Answer() }: StartingPoint = {},
): ChatStream {
  /** Ends everything that this stream has under way. */
  const life = new AbortController()
  /** Everything that came; pings and the like are only for those who pass the stream on. */
  const log: Frame[] = []
  const listeners = new Set<Listener>()
  /** There is nothing more to read. */
  let over = false
  let ended = false
  let failure: WebsopyError | undefined
  /** The read under way, which all consumers wait for together. */
  let step: Promise<void> | undefined
  let loops = 0
  /** Listeners to `data` that have not had every chunk. */
  let feeds = 0
  /** The loop was left: nobody has to be told that the stream is aborted. */
  let left = false

  const cancel = (): void => life.abort(signal?.reason)
  signal?.addEventListener('abort', cancel)
  if (signal?.aborted) cancel()

  const receiver = createReceiver(transport, start, lastEventId, life.signal, (error) => {
    if (!ended) emit(error ? 'reconnecting' : 'reconnected', error)
  })
  const frames = receiver.frames()

  /** Every frame from the first on, for one consumer. */
  async function* read(): AsyncGenerator<Frame, void, undefined> {
    for (let next = 0; next < log.length || !ended; ) {
      if (next < log.length) yield log[next++]!
      else await pull()
    }
  }

  async function* chunks(): AsyncGenerator<StreamChunk, void, undefined> {
    loops++
    try {
      for await (const { chunk } of read()) if (isChunk(chunk)) yield chunk
      if (failure) throw failure
    } finally {
      if (!--loops && !feeds) abandon()
    }
  }

  async function completion(): Promise<ChatCompletion> {
    for await (const _ of chunks());
    return answer.completion()
  }

  async function stop(): Promise<void> {
    if (ended) return
    add({ chunk: { type: 'done', finishReason: 'stopped' }, id: undefined })
    end(undefined, true)
    // A question that is on its way can't be called back: what it started has an id once the server has
    // answered, and only with that can it be stopped. A question that waits to be sent again is given up.
    receiver.retries.max = 0
    if (receiver.nameless) await opened.catch(() => {})
    while (receiver.nameless && !over) await pull()
    life.abort()
    await receiver.stop()
  }

  async function* passOn(): AsyncGenerator<string, void, undefined> {
    // Many servers send their headers with the first byte, and the first word may take a model's time to think.
    yield '{"type":"ping"}'
    let last: string | undefined
    for await (const { chunk, id } of read()) {
      last = chunk.type
      yield JSON.stringify(chunk) + (id ? `\nid: ${id}` : '')
    }
    if (!failure) yield '[DONE]'
    else if (last !== 'error') {
      const { name, message, partial, ...details } = failure as StreamError
      yield JSON.stringify({ type: 'error', error: message, ...details })
    }
  }

  function toReadableStream(): ReadableStream<Uint8Array> {
    const utf8 = new TextEncoder()
    const data = passOn()
    return new ReadableStream(
      {
        pull: async (controller) => {
          const { value } = await data.next()
          if (value) controller.enqueue(utf8.encode(`data: ${value}\n\n`))
          else controller.close()
        },
        cancel: abandon,
      },
      { highWaterMark: 0 },
    )
  }

  function listen(each: Listener): ChatStream {
    listeners.add(each)
    const data = each.event === 'data'
    if (data) feeds++
    // Later, so that listeners added in the same breath miss nothing.
    queueMicrotask(() => (data ? feed(each) : announce()))
    return stream
  }

  /** Gives a listener every chunk, to the end or until it does not listen any more. */
  async function feed(each: Listener): Promise<void> {
    for await (const { chunk } of read()) {
      if (!listeners.has(each)) break
      if (isChunk(chunk)) tell(each, chunk)
    }
    feeds--
    listeners.delete(each)
    announce()
  }

  /** Waits for one more chunk in the log, or for the end. Never rejects. */
  function pull(): Promise<void> {
    step ??= advance().finally(() => {
      step = undefined
    })
    return step
  }

  async function advance(): Promise<void> {
    try {
      await opened
      const { done, value } = await frames.next()
      over = done === true
      if (ended) return
      if (value) add(value)
      const chunk = value?.chunk
      if (done || chunk?.type === 'done') end()
      else if (chunk?.type === 'error') end(new StreamError(chunk, answer.content))
    } catch (error) {
      over = true
      end(meaning(error))
    }
  }

  function add(frame: Frame): void {
    log.push(frame)
    lastEventId = frame.id ?? lastEventId
    if (isChunk(frame.chunk)) answer.add(frame.chunk)
  }

  /** Says in the caller's terms what the broken stream means. */
  function meaning(error: unknown): WebsopyError {
    const partial = answer.content
    const cut = error instanceof APIError ? log.length : error instanceof ConnectionError
    return cut && (error as TimeoutError).phase !== 'idle'
      ? new StreamInterruptedError(partial, error)
      : Object.assign(error as WebsopyError, { partial })
  }

  function abandon(): void {
    left ||= !ended
    end(new AbortError())
  }

  /** `stopping`: the frames may be needed a moment longer. */
  function end(error?: WebsopyError, stopping = false): void {
    if (ended) return
    ended = true
    failure = error
    signal?.removeEventListener('abort', cancel)
    if (error instanceof AbortError) life.abort()
    if (!stopping) void frames.return().catch(() => {})
    queueMicrotask(announce)
  }

  /** Tells how it ended, once every listener has had every chunk. */
  function announce(): void {
    if (!ended || feeds) return
    if (failure && !left) emit(failure instanceof AbortError ? 'abort' : 'error', failure)
    emit('end')
    listeners.clear()
  }

  function emit(event: keyof StreamEvents, value?: unknown): void {
    for (const each of listeners) if (each.event === event) tell(each, value)
  }

  function tell(each: Listener, value: unknown): void {
    if (each.once) listeners.delete(each)
    call(each.call, value as never)
  }

  life.signal.addEventListener('abort', () => end(new AbortError(life.signal.reason)))
  const opened = receiver.connect().then(() => stream)
  opened.catch(end)

  const stream: ChatStream = {
    get id() {
      return receiver.id
    },
    get lastEventId() {
      return lastEventId ?? undefined
    },
    opened,
    answer,
    [Symbol.asyncIterator]: chunks,
    on: (event, call) => listen({ event, call }),
    once: (event, call) => listen({ event, call, once: true }),
    off(event, listener) {
      for (const each of listeners) {
        if (each.event === event && each.call === listener) listeners.delete(each)
      }
      return stream
    },
    text: async () => (await completion()).content,
    completion,
    message: async () => wireMessage({ role: 'assistant', ...(await completion()) }),
    abort: (reason) => {
      if (!ended) life.abort(reason)
    },
    stop,
    toReadableStream,
  }
  return stream
}
