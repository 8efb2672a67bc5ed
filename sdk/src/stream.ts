import {
  AbortError,
  APIError,
  StreamError,
  StreamInterruptedError,
  TimeoutError,
  type WebsopyError,
} from './errors.js'
import { type Position, Receiver, streamPath } from './receiver.js'
import { Retries } from './retries.js'
import type { Call, Transport } from './transport.js'
import type { StreamChunk } from './types.js'

export interface StreamEvents {
  /** Every chunk from the first on, however late one listens. Listening makes the stream flow. */
  data: (chunk: StreamChunk) => void
  /** The answer failed or was cut off. An abort is not an error. */
  error: (error: WebsopyError) => void
  abort: (error: AbortError) => void
  /** However it ended: once, and last. */
  end: () => void
}

interface Listener {
  event: keyof StreamEvents
  call: (value: never) => void
  once: boolean
  /** How many chunks of the log it was given. */
  seen: number
}

/**
 * A streamed answer.
 *
 * One log of chunks serves any number of consumers, each from the beginning. A loop pulls: the
 * server is read no faster than the fastest consumer asks. `on('data')` and `text()` pull all the time.
 */
export class ChatStream implements AsyncIterable<StreamChunk> {
  readonly #transport: Transport
  readonly #receiver: Receiver
  readonly #chunks: AsyncGenerator<StreamChunk, void>
  /** Ends everything that this stream has under way. */
  readonly #life: AbortController
  /** Takes the listener off the caller's signal. */
  readonly #leave: () => void
  readonly #log: StreamChunk[] = []
  readonly #listeners = new Set<Listener>()
  #ended = false
  #error: WebsopyError | undefined
  /** The read under way, which all consumers wait for together. */
  #step: Promise<void> | undefined
  #loops = 0
  #flowing = false
  /** The loop was left: nobody has to be told that the stream is aborted. */
  #left = false

  private constructor(transport: Transport, receiver: Receiver, life: AbortController, leave: () => void) {
    this.#transport = transport
    this.#receiver = receiver
    this.#chunks = receiver.chunks()
    this.#life = life
    this.#leave = leave
    life.signal.addEventListener('abort', () => this.#end(new AbortError(life.signal.reason)))
  }

  /**
   * Resolves at the response headers, after retries.
   * @internal
   */
  static async open(
    transport: Transport,
    start: Call | Position,
    signal: AbortSignal | undefined,
  ): Promise<ChatStream> {
    const life = new AbortController()
    const abort = (): void => life.abort(signal?.reason)
    const leave = (): void => signal?.removeEventListener('abort', abort)
    signal?.addEventListener('abort', abort)
    if (signal?.aborted) abort()

    const receiver = new Receiver(transport, start, life.signal)
    try {
      await receiver.connect()
      if (life.signal.aborted) throw new AbortError(life.signal.reason)
    } catch (error) {
      leave()
      throw error
    }
    return new ChatStream(transport, receiver, life, leave)
  }

  /** The stream's id on the server, if it is resumable: what `resumeStream` takes. */
  get id(): string | undefined {
    return this.#receiver.id
  }

  /** The position of the last chunk received, if the stream is resumable. */
  get lastEventId(): string | undefined {
    return this.#receiver.lastEventId
  }

  /**
   * Gives every chunk from the first on, then ends; or throws, after the chunks that came before
   * the failure. Leaving the loop aborts the stream, unless somebody else is still reading it.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<StreamChunk, void, undefined> {
    this.#loops++
    try {
      for (let next = 0; ; ) {
        if (next < this.#log.length) yield this.#log[next++]!
        else if (!this.#ended) await this.#pull()
        else if (this.#error) throw this.#error
        else return
      }
    } finally {
      if (--this.#loops === 0 && !this.#heard()) this.#abandon()
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
    for await (const _ of this);
    return this.#text()
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
    this.#log.push({ type: 'done', finishReason: 'stopped' })
    this.#end()
    this.#life.abort()
    if (!this.id) return
    await this.#transport.send(
      {
        method: 'POST',
        path: `${streamPath(this.id)}/stop`,
        signal: new AbortController().signal,
        timeout: this.#transport.options.timeout ?? 60_000,
        accept: ({ abort }) => abort(),
      },
      new Retries(this.#transport.options.maxRetries),
    )
  }

  /**
   * The stream as the bytes of an event stream, for passing it on: `new Response(stream.toReadableStream())`
   * from a server's route is what the SDK can read in the browser. Cancelling it aborts the stream.
   */
  toReadableStream(): ReadableStream<Uint8Array> {
    const utf8 = new TextEncoder()
    const chunks = this[Symbol.asyncIterator]()
    let failed = false
    return new ReadableStream(
      {
        pull: async (controller) => {
          const frame = (data: string): void => controller.enqueue(utf8.encode(`data: ${data}\n\n`))
          try {
            const { done, value } = await chunks.next()
            if (!done) {
              failed = value.type === 'error'
              return frame(JSON.stringify(value))
            }
            frame('[DONE]')
          } catch (error) {
            const { message, code, retryable } = error as WebsopyError
            if (!failed) frame(JSON.stringify({ type: 'error', error: message, code, retryable }))
          }
          controller.close()
        },
        cancel: () => this.#abandon(),
      },
      { highWaterMark: 0 },
    )
  }

  #listen(event: keyof StreamEvents, call: Listener['call'], once: boolean): this {
    this.#listeners.add({ event, call, once, seen: 0 })
    // Later, so that listeners added in the same breath miss nothing.
    queueMicrotask(() => {
      this.#deliver()
      void this.#flow()
    })
    return this
  }

  #heard(): boolean {
    return [...this.#listeners].some(({ event }) => event === 'data')
  }

  async #flow(): Promise<void> {
    if (this.#flowing) return
    this.#flowing = true
    while (!this.#ended && this.#heard()) await this.#pull()
    this.#flowing = false
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
      const { done, value } = await this.#chunks.next()
      if (this.#ended) return
      if (value) this.#log.push(value)
      if (done || value?.type === 'done') this.#end()
      else if (value?.type === 'error') this.#end(new StreamError(value, this.#text()))
      else this.#deliver()
    } catch (error) {
      this.#end(this.#failure(error))
    }
  }

  /** Says in the caller's terms what the broken stream means. */
  #failure(error: unknown): WebsopyError {
    const partial = this.#text()
    if (error instanceof AbortError || (error instanceof APIError && this.#log.length === 0)) return error
    if (error instanceof StreamError || (error instanceof TimeoutError && error.phase === 'idle')) {
      return Object.assign(error, { partial })
    }
    return new StreamInterruptedError(partial, error)
  }

  #abandon(): void {
    this.#left ||= !this.#ended
    this.#end(new AbortError())
  }

  #end(error?: WebsopyError): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#leave()
    if (error instanceof AbortError) this.#life.abort()
    void this.#chunks.return().catch(() => {})
    queueMicrotask(() => this.#deliver())
  }

  #text(): string {
    return this.#log.map((chunk) => (chunk.type === 'content' ? chunk.content : '')).join('')
  }

  /** Gives each listener what it has not been given yet. */
  #deliver(): void {
    // A listener that ends the stream here has added to the log: the others get that first.
    const ended = this.#ended
    for (const each of this.#listeners) {
      if (each.event !== 'data') continue
      while (each.seen < this.#log.length && this.#listeners.has(each))
        this.#call(each, this.#log[each.seen++])
    }
    if (!ended) return
    if (this.#error instanceof AbortError) {
      if (!this.#left) this.#announce('abort')
    } else if (this.#error) this.#announce('error')
    this.#announce('end')
  }

  #announce(event: 'error' | 'abort' | 'end'): void {
    for (const each of this.#listeners) {
      if (each.event !== event) continue
      this.#listeners.delete(each)
      this.#call(each, event === 'end' ? undefined : this.#error)
    }
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
