import { Answer, wireMessage } from './answer.js'
import {
  AbortError,
  APIError,
  ConnectionError,
  StreamError,
  StreamInterruptedError,
  type TimeoutError,
  type WebsopyError,
} from './errors.js'
import { type Frame, isChunk, type Question, Receiver } from './receiver.js'
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

interface Listener {
  event: keyof StreamEvents
  call: (value: never) => void
  once: boolean
}

/**
 * A streamed answer.
 *
 * One log of chunks serves any number of consumers, each from the beginning. A loop pulls: the
 * server is read no faster than the fastest consumer asks. `on('data')` and `text()` pull all the time.
 */
export class ChatStream implements AsyncIterable<StreamChunk> {
  readonly #receiver: Receiver
  readonly #frames: AsyncGenerator<Frame, void>
  /** Ends everything that this stream has under way. */
  readonly #life: AbortController
  /** Takes the listener off the caller's signal. */
  readonly #leave: () => void
  /** Everything that came; pings and the like are only for those who pass the stream on. */
  readonly #log: Frame[] = []
  readonly #listeners = new Set<Listener>()
  /** What has come so far. */
  readonly #answer = new Answer()
  /**
   * Resolves at the response headers, after retries.
   * @internal
   */
  readonly opened: Promise<this>
  /** There is nothing more to read. */
  #over = false
  #ended = false
  #error: WebsopyError | undefined
  /** The read under way, which all consumers wait for together. */
  #step: Promise<void> | undefined
  /** Loops and `data` listeners. */
  #readers = 0
  /** The loop was left: nobody has to be told that the stream is aborted. */
  #left = false

  /** @internal */
  constructor(
    transport: Transport,
    start: Question | string,
    lastEventId: string | null | undefined,
    signal: AbortSignal | undefined,
  ) {
    const life = new AbortController()
    const abort = (): void => life.abort(signal?.reason)
    signal?.addEventListener('abort', abort)
    if (signal?.aborted) abort()

    this.#life = life
    this.#leave = () => signal?.removeEventListener('abort', abort)
    this.#receiver = new Receiver(transport, start, lastEventId, life.signal, (error) => {
      if (!this.#ended) this.#emit(error ? 'reconnecting' : 'reconnected', error)
    })
    this.#frames = this.#receiver.frames()
    life.signal.addEventListener('abort', () => this.#end(new AbortError(life.signal.reason)))
    this.opened = this.#receiver.connect().then(() => this)
    this.opened.catch((error) => this.#end(error))
  }

  /** The stream's id on the server, if it is resumable: what `resumeStream` takes. */
  get id(): string | undefined {
    return this.#receiver.id
  }

  /** The position of the last chunk received, if the stream is resumable. */
  get lastEventId(): string | undefined {
    return this.#receiver.lastEventId ?? undefined
  }

  /**
   * Gives every chunk from the first on, then ends; or throws, after the chunks that came before
   * the failure. Leaving the loop aborts the stream, unless somebody else is still reading it.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<StreamChunk, void, undefined> {
    this.#readers++
    try {
      for await (const { chunk } of this.#read()) if (isChunk(chunk)) yield chunk
      if (this.#error) throw this.#error
    } finally {
      if (--this.#readers === 0) this.#abandon()
    }
  }

  /** Every frame from the first on, for one consumer. */
  async *#read(): AsyncGenerator<Frame, void, undefined> {
    for (let next = 0; next < this.#log.length || !this.#ended; ) {
      if (next < this.#log.length) yield this.#log[next++]!
      else await this.#pull()
    }
  }

  on<E extends keyof StreamEvents>(event: E, listener: StreamEvents[E]): this {
    return this.#listen(event, listener, false)
  }

  once<E extends keyof StreamEvents>(event: E, listener: StreamEvents[E]): this {
    return this.#listen(event, listener, true)
  }

  off<E extends keyof StreamEvents>(event: E, listener: StreamEvents[E]): this {
    for (const each of this.#listeners) {
      if (each.event === event && each.call === listener) this.#listeners.delete(each)
    }
    return this
  }

  /** The whole text of the answer; rejects when it fails or is aborted. */
  async text(): Promise<string> {
    return (await this.completion()).content
  }

  /** The whole answer; rejects when it fails or is aborted. */
  async completion(): Promise<ChatCompletion> {
    for await (const _ of this);
    return this.#answer.completion()
  }

  /** The answer as the assistant's message, with its calls and state: append it to `messages`. */
  async message(): Promise<Message> {
    return wireMessage({ role: 'assistant', ...(await this.completion()) })
  }

  /** Ends the stream here and now with an `AbortError`. */
  abort(reason?: unknown): void {
    if (!this.#ended) this.#life.abort(reason)
  }

  /**
   * The user has read enough: ends the stream with `done` and the finish reason `stopped`, at once.
   * The promise is the server's word that a resumable stream is not generated any further.
   */
  async stop(): Promise<void> {
    if (this.#ended) return
    this.#add({ chunk: { type: 'done', finishReason: 'stopped' }, id: undefined })
    this.#end(undefined, true)
    await this.#knowId()
    this.#life.abort()
    await this.#receiver.stop()
  }

  /**
   * A question that is on its way can't be called back: what it started has an id once the server has
   * answered, and only with that can it be stopped. A question that waits to be sent again is given up.
   */
  async #knowId(): Promise<void> {
    const receiver = this.#receiver
    receiver.retries.max = 0
    if (receiver.retries.waiting || !receiver.resumable) return
    await this.opened.catch(() => {})
    while (receiver.resumable && !this.id && !this.#over) await this.#pull()
  }

  /**
   * The stream as the bytes of an event stream, for passing it on: `new Response(stream.toReadableStream())`
   * from a server's route is what the SDK can read in the browser. Cancelling it aborts the stream.
   */
  toReadableStream(): ReadableStream<Uint8Array> {
    const utf8 = new TextEncoder()
    const frames = this.#passOn()
    return new ReadableStream(
      {
        pull: async (controller) => {
          const { value } = await frames.next()
          if (value) controller.enqueue(utf8.encode(`data: ${value}\n\n`))
          else controller.close()
        },
        cancel: () => this.#abandon(),
      },
      { highWaterMark: 0 },
    )
  }

  async *#passOn(): AsyncGenerator<string, void, undefined> {
    // Many servers send their headers with the first byte, and the first word may take a model's time to think.
    yield '{"type":"ping"}'
    let last: string | undefined
    for await (const { chunk, id } of this.#read()) {
      last = chunk.type
      yield JSON.stringify(chunk) + (id ? `\nid: ${id}` : '')
    }
    if (!this.#error) yield '[DONE]'
    else if (last !== 'error') {
      const { name, message, partial, ...details } = this.#error as StreamError
      yield JSON.stringify({ type: 'error', error: message, ...details })
    }
  }

  #listen(event: keyof StreamEvents, call: Listener['call'], once: boolean): this {
    const each = { event, call, once }
    this.#listeners.add(each)
    if (event === 'data') this.#readers++
    // Later, so that listeners added in the same breath miss nothing.
    queueMicrotask(() => (event === 'data' ? this.#feed(each) : this.#announce()))
    return this
  }

  /** Gives a listener every chunk, to the end or until it does not listen any more. */
  async #feed(each: Listener): Promise<void> {
    for await (const { chunk } of this.#read()) {
      if (!this.#listeners.has(each)) break
      if (isChunk(chunk)) this.#call(each, chunk)
    }
    this.#readers--
    this.#listeners.delete(each)
    this.#announce()
  }

  /** Waits for one more chunk in the log, or for the end. Never rejects. */
  #pull(): Promise<void> {
    this.#step ??= this.#advance().finally(() => {
      this.#step = undefined
    })
    return this.#step
  }

  async #advance(): Promise<void> {
    try {
      await this.opened
      const { done, value } = await this.#frames.next()
      this.#over = done === true
      if (this.#ended) return
      if (value) this.#add(value)
      const chunk = value?.chunk
      if (done || chunk?.type === 'done') this.#end()
      else if (chunk?.type === 'error') this.#end(new StreamError(chunk, this.#answer.content))
    } catch (error) {
      this.#over = true
      this.#end(this.#failure(error))
    }
  }

  #add(frame: Frame): void {
    this.#log.push(frame)
    if (isChunk(frame.chunk)) this.#answer.add(frame.chunk)
  }

  /** Says in the caller's terms what the broken stream means. */
  #failure(error: unknown): WebsopyError {
    const partial = this.#answer.content
    const cut = error instanceof APIError ? this.#log.length : error instanceof ConnectionError
    return cut && (error as TimeoutError).phase !== 'idle'
      ? new StreamInterruptedError(partial, error)
      : Object.assign(error as WebsopyError, { partial })
  }

  #abandon(): void {
    this.#left ||= !this.#ended
    this.#end(new AbortError())
  }

  /** `stopping`: the frames may be needed a moment longer. */
  #end(error?: WebsopyError, stopping = false): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#leave()
    if (error instanceof AbortError) this.#life.abort()
    if (!stopping) void this.#frames.return().catch(() => {})
    queueMicrotask(() => this.#announce())
  }

  /** Tells how it ended, once every listener has had every chunk. */
  #announce(): void {
    const error = this.#error
    if (!this.#ended || [...this.#listeners].some(({ event }) => event === 'data')) return
    if (error && !this.#left) this.#emit(error instanceof AbortError ? 'abort' : 'error', error)
    this.#emit('end')
    this.#listeners.clear()
  }

  #emit(event: keyof StreamEvents, value?: unknown): void {
    for (const each of this.#listeners) if (each.event === event) this.#call(each, value)
  }

  #call(each: Listener, value: unknown): void {
    if (each.once) this.#listeners.delete(each)
    try {
      each.call(value as never)
    } catch (error) {
      // The listener's own bug: reported as such, but neither the stream nor the others suffer.
      queueMicrotask(() => {
        throw error
      })
    }
  }
}
