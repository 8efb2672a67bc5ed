import { Answer, type UIMessage, wire } from './answer.js'
import { WebsopyClient } from './client.js'
import { AbortError } from './errors.js'
import type { ChatStream } from './stream.js'
import type { ModelOptions, StreamChunk, ToolCall } from './types.js'

export type { UIMessage } from './answer.js'

/** `submitted`: asked, and nothing of the answer is there yet. */
export type ChatStatus = 'ready' | 'submitted' | 'streaming' | 'error'

/** What is to be shown now. Never changed in place: another state is another snapshot. */
export interface ChatSnapshot {
  readonly messages: readonly UIMessage[]
  readonly status: ChatStatus
  /** An answer is under way: `submitted` or `streaming`. */
  readonly streaming: boolean
  /** The text of the answer under way. */
  readonly currentContent: string
  readonly currentReasoning: string
  readonly currentToolCalls: readonly ToolCall[]
  /** What `resume` takes to pick up the answer under way, if it can be picked up. */
  readonly streamId: string | undefined
  readonly error: Error | undefined
}

export interface ChatOptions extends ModelOptions {
  /** Default: a client for the page's own origin, without a key. */
  client?: WebsopyClient | undefined
  /** The conversation to begin with. */
  initialMessages?: readonly UIMessage[] | undefined
  /** Whether answers survive broken connections. Default true. */
  resumable?: boolean | undefined
  /** Told of every chunk as it arrives; snapshots come less often. */
  onChunk?: ((chunk: StreamChunk) => void) | undefined
}

/** Milliseconds between two snapshots of a growing answer: about what a screen can show. */
const publishInterval = 32

const idle = {
  streaming: false,
  currentContent: '',
  currentReasoning: '',
  currentToolCalls: [],
  streamId: undefined,
  error: undefined,
} as const

/**
 * A conversation, for any framework: the React hook and the Vue composable are this.
 *
 * Everything reads the store, never a captured snapshot, so a function kept from an earlier render
 * does the same as a fresh one.
 */
export class ChatStore {
  readonly #options: () => ChatOptions
  readonly #sameOrigin = new WebsopyClient({ baseURL: '' })
  readonly #subscribers = new Set<() => void>()
  #snapshot: ChatSnapshot
  /** Ends the answer under way; there is none when absent. */
  #run: AbortController | undefined
  #stream: ChatStream | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  /** `options` is asked before every request. */
  constructor(options: () => ChatOptions = () => ({})) {
    this.#options = options
    this.#snapshot = { ...idle, status: 'ready', messages: options().initialMessages ?? [] }
  }

  readonly subscribe = (subscriber: () => void): (() => void) => {
    this.#subscribers.add(subscriber)
    return () => void this.#subscribers.delete(subscriber)
  }

  readonly getSnapshot = (): ChatSnapshot => this.#snapshot

  /**
   * Asks, with the whole conversation. Resolves to whether a complete answer came; `false` at once,
   * and nothing is sent, while another answer is under way or when there is nothing to ask. Never rejects.
   */
  readonly sendMessage = (message: string | UIMessage): Promise<boolean> => {
    const asked: UIMessage = typeof message === 'string' ? { role: 'user', content: message } : message
    if (!asked.content.trim() && !asked.parts?.length) return Promise.resolve(false)
    return this.#ask([...this.#snapshot.messages, asked])
  }

  /** Asks again, for another answer in place of the last one. Resolves as `sendMessage` does. */
  readonly regenerate = (): Promise<boolean> => {
    const messages = [...this.#snapshot.messages]
    while (messages.at(-1)?.role === 'assistant') messages.pop()
    return this.#ask(messages)
  }

  /** Picks up an answer that was under way before, as after a reload. Resolves as `sendMessage` does. */
  readonly resume = (streamId: string): Promise<boolean> => {
    const { client = this.#sameOrigin } = this.#options()
    return this.#receive(this.#snapshot.messages, (signal) => client.ai.resumeStream(streamId, { signal }))
  }

  /** Ends the answer under way and keeps what is there of it. */
  readonly stop = (): void => {
    // When the server can't be told, it stops by itself soon, for want of a reader.
    if (this.#stream) this.#stream.stop().catch(() => {})
    else this.#run?.abort()
  }

  readonly setMessages = (
    messages: readonly UIMessage[] | ((messages: readonly UIMessage[]) => readonly UIMessage[]),
  ): void => {
    this.#publish({ messages: typeof messages === 'function' ? messages(this.#snapshot.messages) : messages })
  }

  readonly clearError = (): void => {
    if (this.#snapshot.status === 'error') this.#publish({ status: 'ready', error: undefined })
  }

  /** Closes the connection of the answer under way. The store can be used again after it. */
  readonly dispose = (): void => this.#run?.abort()

  #ask(messages: readonly UIMessage[]): Promise<boolean> {
    const role = messages.at(-1)?.role
    if (role !== 'user' && role !== 'tool') return Promise.resolve(false)
    const {
      client = this.#sameOrigin,
      initialMessages,
      onChunk,
      resumable = true,
      ...options
    } = this.#options()
    const body = { ...options, resumable, messages: wire(messages) }
    return this.#receive(messages, (signal) => client.ai.chatStream({ ...body, signal }))
  }

  async #receive(
    messages: readonly UIMessage[],
    open: (signal: AbortSignal) => Promise<ChatStream>,
  ): Promise<boolean> {
    if (this.#run) return false
    const run = new AbortController()
    this.#run = run
    this.#publish({ ...idle, messages, status: 'submitted', streaming: true })

    const answer = new Answer()
    let error: Error | undefined
    try {
      this.#stream = await open(run.signal)
      this.#publish({ streamId: this.#stream.id })
      for await (const chunk of this.#stream) {
        answer.add(chunk)
        this.#show(answer)
        this.#options().onChunk?.(chunk)
      }
      answer.complete()
    } catch (thrown) {
      if (!(thrown instanceof AbortError)) error = thrown as Error
    }
    clearTimeout(this.#timer)
    this.#run = this.#stream = this.#timer = undefined
    const kept = answer.message()
    this.#publish({
      ...idle,
      status: error ? 'error' : 'ready',
      error,
      messages: kept ? [...this.#snapshot.messages, kept] : this.#snapshot.messages,
    })
    return kept !== undefined && !kept.interrupted && kept.finishReason !== 'stopped'
  }

  /** Publishes the growing answer: its first chunk at once, the others as often as people can see. */
  #show(answer: Answer): void {
    const publish = (): void => {
      this.#timer = undefined
      this.#publish({
        status: 'streaming',
        currentContent: answer.content,
        currentReasoning: answer.reasoning,
        currentToolCalls: answer.toolCalls,
        streamId: this.#stream?.id,
      })
    }
    if (this.#snapshot.status === 'submitted') publish()
    else this.#timer ??= setTimeout(publish, publishInterval)
  }

  #publish(change: Partial<ChatSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change }
    for (const subscriber of [...this.#subscribers]) subscriber()
  }
}
