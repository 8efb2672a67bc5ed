import { Answer, messageOf, type UIMessage, wire } from './answer.js'
import { uniqueKey, WebsopyClient } from './client.js'
import { AbortError, call, StreamError } from './errors.js'
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

/** One answer under way. */
interface Run {
  readonly stream: ChatStream
  /** The message that is answered: the answer belongs behind it and nowhere else. */
  question: UIMessage | undefined
  /** The answer that is to be replaced by a better one. */
  readonly old: readonly UIMessage[]
  /** What was put behind the question when the run was over. */
  kept?: readonly UIMessage[]
  /** By which the run can be picked up, when it broke off. */
  id?: string | undefined
  readonly settle: (complete: boolean) => void
}

/** The server has the stream no more: there is nothing to pick up. */
const gone = (error: { status?: number; cause?: unknown } | undefined): boolean =>
  Boolean(error) && (error!.status === 404 || error!.status === 410 || gone(error!.cause as Error))

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
  declare readonly subscribe: (subscriber: () => void) => () => void
  declare readonly getSnapshot: () => ChatSnapshot
  /**
   * Asks, with the whole conversation. Resolves to whether a complete answer came; `false` at once,
   * and nothing is sent, while another answer is under way or when there is nothing to ask. Never rejects.
   */
  declare readonly sendMessage: (message: string | UIMessage) => Promise<boolean>
  /**
   * Asks again, for another answer in place of the last one, which comes back when the new one fails or is
   * stopped. An answer that broke off is picked up instead, if the server still has it. Resolves as
   * `sendMessage` does.
   */
  declare readonly regenerate: () => Promise<boolean>
  /**
   * Goes on with the answer that broke off; with a `streamId`, with one that was under way on an earlier
   * page. Resolves as `sendMessage` does.
   */
  declare readonly resume: (streamId?: string) => Promise<boolean>
  /** Ends the answer under way and keeps what is there of it. */
  declare readonly stop: () => void
  /**
   * Replaces the conversation. An answer goes on, and an error stays, if the question is still there: the same
   * object as in `messages`.
   */
  declare readonly setMessages: (
    change: readonly UIMessage[] | ((messages: readonly UIMessage[]) => readonly UIMessage[]),
  ) => void
  declare readonly clearError: () => void
  /**
   * Closes the connection of the answer under way. A resumable one is written on for a while, and `resume`
   * picks it up. The store can be used again after it.
   */
  declare readonly dispose: () => void
  /** What an app may do, as the hooks give it. @internal */
  declare readonly actions: Pick<ChatStore, Action>
  /** Other options, from the next request on. @internal */
  declare readonly configure: (options: () => ChatOptions) => void
  /**
   * As `subscribe`, for a component. When the last one has gone for good, the answer of a conversation without
   * an id is stopped.
   * @internal
   */
  declare readonly attach: (subscriber: () => void) => () => void
  /** Nobody shows it, and nothing is under way. @internal */
  declare readonly unused: () => boolean

  /** `options` is asked before every request. */
  constructor(options: () => ChatOptions = () => ({})) {
    Object.assign(this, createStore(options))
  }
}

/** The functions that the hooks pass on. */
export type Action = 'sendMessage' | 'regenerate' | 'resume' | 'stop' | 'setMessages' | 'clearError'

function createStore(options: () => ChatOptions): ChatStore {
  const sameOrigin = new WebsopyClient({ baseURL: '' })
  const subscribers = new Set<() => void>()
  const nothing = new Answer()
  let snapshot: ChatSnapshot
  let run: Run | undefined
  /** The run before, if it failed: what is shown of that belongs to its question. */
  let failed: Run | undefined
  /** The last request, until it is known what came of it: asked again it must not count twice. */
  let asked: { body: string; key: string } | undefined
  let timer: ReturnType<typeof setTimeout> | undefined

  const subscribe: ChatStore['subscribe'] = (subscriber) => {
    subscribers.add(subscriber)
    return () => void subscribers.delete(subscriber)
  }

  const sendMessage: ChatStore['sendMessage'] = async (message) => {
    const asked: UIMessage = typeof message === 'string' ? { role: 'user', content: message } : message
    // A tool that has nothing to say has still been called.
    if (asked.role === 'user' && !asked.content.trim() && !asked.parts?.length) return false
    // A copy: an app may send one message twice, and the answer knows its question by identity.
    return ask([...snapshot.messages, { ...asked }])
  }

  const regenerate: ChatStore['regenerate'] = async () => {
    if (failed?.id) return (await resume()) || (gone(snapshot.error) && regenerate())
    const messages = [...snapshot.messages]
    const old: UIMessage[] = []
    while (messages.at(-1)?.role === 'assistant') old.unshift(messages.pop()!)
    return ask(messages, old)
  }

  const resume: ChatStore['resume'] = async (streamId = failed?.id) => {
    if (!streamId || run) return false
    const same = failed?.id === streamId ? failed : undefined
    const { messages } = snapshot
    // What was kept of the answer comes again, whole; when nothing comes, it is all there is.
    const kept = same?.kept ?? messages.slice(-1).filter(({ role }) => role === 'assistant')
    return receive(
      ai().pickUp(streamId, same?.stream),
      messages.filter((message) => !kept.includes(message)),
      same?.old ?? kept,
    )
  }

  const stop: ChatStore['stop'] = () => {
    if (!run) return
    const { stream } = run
    // When the server can't be told, it stops by itself soon, for want of a reader.
    stream.stop().catch(() => {})
    stream.answer.add({ type: 'done', finishReason: 'stopped' })
    finish(run)
  }

  const setMessages: ChatStore['setMessages'] = (change) => {
    const messages = typeof change === 'function' ? change(snapshot.messages) : change
    const last = run ?? failed
    if (last) last.question ??= messages.at(-1)
    if (!last || messages.includes(last.question!)) return publish(snapshot.status, messages, snapshot.error)
    // A question that failed may have arrived: who comes back to it asks the same one.
    release(run ? undefined : asked)
    last.stream.stop().catch(() => {})
    last.settle(false)
    publish('ready', messages)
  }

  const clearError: ChatStore['clearError'] = () => {
    if (snapshot.error) publish('ready')
  }

  const dispose: ChatStore['dispose'] = () => {
    if (!run) return
    const { stream } = run
    stream.abort()
    finish(run, stream.answer.done ? undefined : new AbortError())
  }

  const attach: ChatStore['attach'] = (subscriber) => {
    const { id } = options()
    const unsubscribe = subscribe(subscriber)
    return () => {
      unsubscribe()
      // Later: StrictMode takes a component away and brings it back in the same breath.
      queueMicrotask(() => {
        if (!subscribers.size && id === undefined) stop()
      })
    }
  }

  const ai = () => (options().client ?? sameOrigin).ai

  async function ask(messages: readonly UIMessage[], old?: readonly UIMessage[]): Promise<boolean> {
    const role = messages.at(-1)?.role
    if (run || (role !== 'user' && role !== 'tool')) return false
    const { client, id, initialMessages, onChunk, resumable = true, ...more } = options()
    const params = { ...more, resumable, messages: wire(messages) }
    const body = JSON.stringify(params)
    // A question that may have arrived is the same question.
    if (asked?.body !== body) asked = { body, key: uniqueKey() }
    return receive(ai().begin({ ...params, idempotencyKey: asked.key }), messages, old)
  }

  function receive(
    stream: ChatStream,
    messages: readonly UIMessage[],
    old: readonly UIMessage[] = [],
  ): Promise<boolean> {
    return new Promise((settle) => {
      const mine: Run = { stream, question: messages.at(-1), old, settle }
      const begun = (): boolean => messageOf(stream.answer, true) !== undefined
      const show = (status: ChatStatus): void => {
        if (run === mine) publish(status)
      }
      const open = (): void => show(begun() ? 'streaming' : 'submitted')
      run = mine
      failed = undefined
      publish(begun() ? 'reconnecting' : 'submitted', messages)
      stream.on('reconnecting', () => show('reconnecting')).on('reconnected', open)
      stream.opened.then(open, () => {})
      void read(mine)
    })
  }

  async function read(mine: Run): Promise<void> {
    let error: Error | undefined
    try {
      for await (const chunk of mine.stream) {
        if (run !== mine) return
        // The first chunk is shown at once, the others as often as people can see.
        if (snapshot.status !== 'streaming') publish('streaming')
        else {
          timer ??= setTimeout(() => {
            timer = undefined
            publish(snapshot.status)
          }, publishInterval)
        }
        call(options().onChunk, chunk)
      }
    } catch (thrown) {
      error = thrown as Error
    }
    if (run === mine) finish(mine, error)
  }

  /** There is no run any more, and none to come back to. */
  function release(keep?: typeof asked): void {
    clearTimeout(timer)
    asked = keep
    run = failed = timer = undefined
  }

  /** Puts what there is of the answer behind its question, in one snapshot. */
  function finish(over: Run, error?: Error): void {
    const { stream, question, old, settle } = over
    const left = error instanceof AbortError
    // Only the relay's word in the stream, or that it has none, says what came of the question. A proxy's 504, or a
    // token that has run out, does not: asked again it is the same one, and an answer that has an id is there still.
    const unsure = error && !(error instanceof StreamError) && !gone(error)
    release(unsure ? asked : undefined)
    if (error) failed = over
    if (unsure) over.id = stream.id

    const message = messageOf(stream.answer, Boolean(error))
    const complete = message !== undefined && whole(message)
    over.kept = message && (complete || !old.some(whole)) ? [message] : old
    const messages = [...snapshot.messages]
    messages.splice(messages.indexOf(question!) + 1, 0, ...over.kept)
    publish('ready', messages, left ? undefined : error)
    settle(complete)
  }

  function publish(status: ChatStatus, messages = snapshot.messages, error?: Error): void {
    const { content, reasoning, toolCalls } = run?.stream.answer ?? nothing
    snapshot = {
      messages,
      status: error ? 'error' : status,
      error,
      streaming: run !== undefined,
      currentContent: content,
      currentReasoning: reasoning,
      currentToolCalls: toolCalls,
      streamId: (run?.stream ?? failed)?.id,
    }
    for (const subscriber of [...subscribers]) call(subscriber)
  }

  publish('ready', options().initialMessages ?? [])
  const actions = { sendMessage, regenerate, resume, stop, setMessages, clearError }
  return {
    ...actions,
    actions,
    subscribe,
    getSnapshot: () => snapshot,
    dispose,
    configure: (changed) => {
      options = changed
    },
    attach,
    unused: () => !subscribers.size && !run,
  }
}

/** Conversations by their ids, as long as the page lives; those in use are never dropped. */
const chats = new Map<string, ChatStore>()
const maxChats = 50

/**
 * The conversation with this id; without one, a new conversation. A server has many users: there each call
 * makes one of its own.
 */
export function chatStore(id: string | undefined, options: () => ChatOptions): ChatStore {
  let store = chats.get(id!)
  if (store) return store
  store = new ChatStore(options)
  if (id === undefined || typeof document !== 'object') return store
  for (const [other, { unused }] of chats) if (chats.size >= maxChats && unused()) chats.delete(other)
  chats.set(id, store)
  return store
}
