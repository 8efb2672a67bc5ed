import { Answer, messageOf, type UIMessage, wire } from './answer.js'
import { uniqueKey, WebsopyClient } from './client.js'
import { AbortError, ConnectionError } from './errors.js'
import type { ChatStream } from './stream.js'
import type { ModelOptions, StreamChunk, ToolCall } from './types.js'

export type { UIMessage } from './answer.js'

/**
 * `submitted`: asked, and nothing of the answer is there yet. `reconnecting`: the connection broke, and the
 * answer is being picked up.
 */
export type ChatStatus = 'ready' | 'submitted' | 'streaming' | 'reconnecting' | 'error'

/** What is to be shown now. Never changed in place: another state is another snapshot. */
export interface ChatSnapshot {
  readonly messages: readonly UIMessage[]
  readonly status: ChatStatus
  /** An answer is under way: `submitted`, `streaming` or `reconnecting`. */
  readonly streaming: boolean
  /** The text of the answer under way. */
  readonly currentContent: string
  readonly currentReasoning: string
  readonly currentToolCalls: readonly ToolCall[]
  /** What `resume` takes to pick up the answer that is under way, or broke off, if that is possible. */
  readonly streamId: string | undefined
  readonly error: Error | undefined
}

export interface ChatOptions extends ModelOptions {
  /**
   * Names the conversation: it outlives the component, and another one with the same id goes on with it.
   * Without an id, the end of the component stops the answer.
   */
  id?: string | undefined
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

/** One answer under way. */
interface Run {
  readonly stream: ChatStream
  readonly answer: Answer
  /** The message that is answered: the answer belongs behind it and nowhere else. */
  question: UIMessage | undefined
  /** The answer that is to be replaced by a better one. */
  readonly old: readonly UIMessage[]
  /** What was put behind the question when the run was over. */
  kept: readonly UIMessage[]
  /** It was left, perhaps before all was read that had come: to be picked up from its beginning. */
  left: boolean
  readonly settle: (complete: boolean) => void
}

/** The server has the stream no more: there is nothing to pick up. */
const gone = (error: unknown): boolean => {
  const { status, cause } = Object(error) as { status?: number; cause?: unknown }
  return status === 404 || status === 410 || (cause !== undefined && gone(cause))
}

const whole = ({ interrupted, finishReason }: UIMessage): boolean =>
  !interrupted && finishReason !== 'stopped'

/**
 * A conversation, for any framework: the React hook and the Vue composable are this.
 *
 * Everything reads the store, never a captured snapshot, so a function kept from an earlier render
 * does the same as a fresh one. An answer belongs to the question that it was asked with: what ends a run
 * does so at once, and what still comes of it is dropped.
 */
export class ChatStore {
  #options: () => ChatOptions
  readonly #sameOrigin = new WebsopyClient({ baseURL: '' })
  readonly #subscribers = new Set<() => void>()
  #snapshot: ChatSnapshot
  #run: Run | undefined
  /** A run that broke off and may be picked up. */
  #lost: Run | undefined
  /** The last request, until it is known what came of it: asked again it must not count twice. */
  #asked: { body: string; key: string } | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #users = 0

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
  readonly sendMessage = async (message: string | UIMessage): Promise<boolean> => {
    const asked: UIMessage = typeof message === 'string' ? { role: 'user', content: message } : message
    if (!asked.content.trim() && !asked.parts?.length) return false
    return this.#ask([...this.#snapshot.messages, asked])
  }

  /**
   * Asks again, for another answer in place of the last one, which comes back when the new one fails or is
   * stopped. An answer that broke off is picked up instead, if the server still has it. Resolves as
   * `sendMessage` does.
   */
  readonly regenerate = async (): Promise<boolean> => {
    if (this.#lost) return (await this.resume()) || (gone(this.#snapshot.error) && this.regenerate())
    const messages = [...this.#snapshot.messages]
    const old: UIMessage[] = []
    while (messages.at(-1)?.role === 'assistant') old.unshift(messages.pop()!)
    return this.#ask(messages, old)
  }

  /**
   * Goes on with the answer that broke off; with a `streamId`, with one that was under way on an earlier
   * page. Resolves as `sendMessage` does.
   */
  readonly resume = async (streamId?: string): Promise<boolean> => {
    const lost = !streamId || this.#lost?.stream.id === streamId ? this.#lost : undefined
    const id = streamId ?? lost?.stream.id
    if (!id || this.#run) return false
    const { client = this.#sameOrigin } = this.#options()
    const { messages } = this.#snapshot
    // What was kept of the answer comes again, whole.
    const kept = lost?.kept ?? messages.slice(-1).filter(({ interrupted }) => interrupted)
    const read = lost?.left ? undefined : lost
    return this.#receive(
      client.ai.pickUp(id, read?.stream.lastEventId),
      messages.filter((message) => !kept.includes(message)),
      lost?.old,
      read?.answer,
    )
  }

  /** Ends the answer under way and keeps what is there of it. */
  readonly stop = (): void => {
    const run = this.#run
    if (!run) return
    // When the server can't be told, it stops by itself soon, for want of a reader.
    run.stream.stop().catch(() => {})
    run.answer.add({ type: 'done', finishReason: 'stopped' })
    this.#finish(run)
  }

  /** Replaces the conversation. An answer goes on if its question is still there, the same object. */
  readonly setMessages = (
    change: readonly UIMessage[] | ((messages: readonly UIMessage[]) => readonly UIMessage[]),
  ): void => {
    const messages = typeof change === 'function' ? change(this.#snapshot.messages) : change
    const run = this.#run ?? this.#lost
    if (run) run.question ??= messages.at(-1)
    const foreign = run && !(run.question && messages.includes(run.question))
    if (foreign) {
      this.#release()
      run.stream.stop().catch(() => {})
      run.settle(false)
    }
    this.#publish(foreign ? { ...idle, status: 'ready', messages } : { messages })
  }

  readonly clearError = (): void => {
    if (this.#snapshot.status === 'error') this.#publish({ status: 'ready', error: undefined })
  }

  /**
   * Closes the connection of the answer under way. A resumable one is written on for a while, and `resume`
   * picks it up. The store can be used again after it.
   */
  readonly dispose = (): void => {
    const run = this.#run
    if (!run) return
    run.stream.abort()
    this.#finish(run, new AbortError())
  }

  /**
   * Counts a component that shows the conversation; the returned function counts it out. When the last one
   * has gone for good, the answer of a conversation without an id is stopped.
   * @internal
   */
  attach(options: () => ChatOptions): () => void {
    this.#options = options
    this.#users++
    return () => {
      this.#users--
      // Later: StrictMode takes a component away and brings it back in the same breath.
      queueMicrotask(() => {
        if (!this.#users && options().id === undefined) this.stop()
      })
    }
  }

  /** Nobody shows it, and nothing is under way. @internal */
  get unused(): boolean {
    return !this.#users && !this.#run
  }

  async #ask(messages: readonly UIMessage[], old: readonly UIMessage[] = []): Promise<boolean> {
    const role = messages.at(-1)?.role
    if (this.#run || (role !== 'user' && role !== 'tool')) return false
    const {
      client = this.#sameOrigin,
      id,
      initialMessages,
      onChunk,
      resumable = true,
      ...options
    } = this.#options()
    const params = { ...options, resumable, messages: wire(messages) }
    const body = JSON.stringify(params)
    // A question that may have arrived is the same question.
    if (this.#asked?.body !== body) this.#asked = { body, key: uniqueKey() }
    return this.#receive(client.ai.begin({ ...params, idempotencyKey: this.#asked.key }), messages, old)
  }

  #receive(
    stream: ChatStream,
    messages: readonly UIMessage[],
    old: readonly UIMessage[] = [],
    answer = new Answer(),
  ): Promise<boolean> {
    return new Promise((settle) => {
      const run: Run = { stream, answer, question: messages.at(-1), old, kept: [], left: false, settle }
      this.#run = run
      this.#lost = undefined
      const status = answer.content ? 'reconnecting' : 'submitted'
      this.#publish({ ...idle, ...current(run), messages, status, streaming: true })
      const show = (change: Partial<ChatSnapshot>): void => {
        if (this.#run === run) this.#publish({ ...change, streamId: stream.id })
      }
      stream.on('reconnecting', () => show({ status: 'reconnecting' }))
      stream.on('reconnected', () => show({ status: messageOf(answer, true) ? 'streaming' : 'submitted' }))
      stream.opened.then(
        () => show({}),
        () => {},
      )
      void this.#read(run)
    })
  }

  async #read(run: Run): Promise<void> {
    let error: Error | undefined
    try {
      for await (const chunk of run.stream) {
        if (this.#run !== run) return
        run.answer.add(chunk)
        this.#show(run)
        this.#options().onChunk?.(chunk)
      }
    } catch (thrown) {
      error = thrown as Error
    }
    if (this.#run === run) this.#finish(run, error)
  }

  /** There is no run any more, and none to come back to. */
  #release(): void {
    clearTimeout(this.#timer)
    this.#run = this.#lost = this.#asked = this.#timer = undefined
  }

  /** Puts what there is of the answer behind its question, in one snapshot. */
  #finish(run: Run, error?: Error): void {
    const { stream, answer, old, settle } = run
    const asked = this.#asked
    this.#release()
    const left = error instanceof AbortError
    const unsure = (left || error instanceof ConnectionError) && !gone(error)
    // What came of the question is not known: asked again, it has to be the same one.
    if (unsure) this.#asked = asked
    if (unsure && stream.id) this.#lost = run
    run.left = left

    const message = messageOf(answer, Boolean(error))
    const better = message && (whole(message) || !old.some(whole))
    const kept = better ? [message] : old
    if (this.#lost) this.#lost.kept = kept
    const messages = [...this.#snapshot.messages]
    const at = run.question ? messages.indexOf(run.question) + 1 : messages.length
    messages.splice(at, 0, ...kept)
    this.#publish({
      ...idle,
      status: error && !left ? 'error' : 'ready',
      error: left ? undefined : error,
      streamId: this.#lost?.stream.id,
      messages,
    })
    settle(message !== undefined && whole(message))
  }

  /** Publishes the growing answer: its first chunk at once, the others as often as people can see. */
  #show(run: Run): void {
    const publish = (): void => {
      this.#timer = undefined
      this.#publish({ ...current(run), status: 'streaming' })
    }
    if (this.#snapshot.status !== 'streaming') publish()
    else this.#timer ??= setTimeout(publish, publishInterval)
  }

  #publish(change: Partial<ChatSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change }
    for (const subscriber of [...this.#subscribers]) subscriber()
  }
}

const current = ({ answer, stream }: Run): Partial<ChatSnapshot> => ({
  currentContent: answer.content,
  currentReasoning: answer.reasoning,
  currentToolCalls: answer.toolCalls,
  streamId: stream.id,
})

/** Conversations by their ids, as long as the page lives; those in use are never dropped. */
const chats = new Map<string, ChatStore>()
const maxChats = 50

/** The conversation with this id. A server has many users: there each call makes one of its own. */
export function chatStore(id: string, options: () => ChatOptions): ChatStore {
  let store = chats.get(id)
  if (store) return store
  store = new ChatStore(options)
  if (typeof document !== 'object') return store
  for (const [other, { unused }] of chats) if (unused && chats.size >= maxChats) chats.delete(other)
  chats.set(id, store)
  return store
}
