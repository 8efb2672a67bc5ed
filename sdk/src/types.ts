// The shapes on the wire, as docs/protocol.md of the relay defines them.

/** A call that the model wants made. */
export interface ToolCall {
  id: string
  name: string
  /** Complete JSON text. */
  arguments: string
}

/** Counted in tokens, as the provider counts them. */
export interface Usage {
  promptTokens: number
  completionTokens: number
  /** Of the prompt's tokens, those that the provider read from its cache. Absent when there were none. */
  cachedTokens?: number
  /** Of the answer's tokens, those that the model thought with. Absent when there were none. */
  reasoningTokens?: number
}

/** Why the model stopped; `stopped` is the user's doing. */
export type FinishReason = 'stop' | 'length' | 'tool_calls' | 'content_filter' | 'stopped'

/** A piece of the answer. */
export interface ContentChunk {
  type: 'content'
  content: string
  tool?: undefined
  usage?: undefined
}

/** A piece of the model's visible thinking. */
export interface ReasoningChunk {
  type: 'reasoning'
  content: string
  tool?: undefined
  usage?: undefined
}

/** One complete tool call. */
export interface ToolCallChunk {
  type: 'tool_call'
  tool: ToolCall
  content?: undefined
  usage?: undefined
}

/** The answer is complete: always the last chunk. */
export interface DoneChunk {
  type: 'done'
  usage?: Usage
  finishReason?: FinishReason
  model?: string
  /** What the provider wants back with this answer: the `state` of its message in the next request. */
  state?: string
  content?: undefined
  tool?: undefined
}

/** The answer failed: always the last chunk. The text that came before it stays valid. */
export interface ErrorChunk {
  type: 'error'
  /** A message for people. */
  error: string
  code: string
  /** Whether the same request may succeed later. */
  retryable: boolean
  requestId?: string
  /** Which of the relay's clocks ran out, when `code` is `upstream_timeout`. */
  phase?: string
  /** Seconds to wait before asking again, when the provider said so. */
  retryAfter?: number
  content?: undefined
  tool?: undefined
  usage?: undefined
}

/** One step of an answer. Switch on `type`; every field can be read without narrowing, too. */
export type StreamChunk = ContentChunk | ReasoningChunk | ToolCallChunk | DoneChunk | ErrorChunk

export type Role = 'system' | 'user' | 'assistant' | 'tool'

export type ContentPart =
  | { type: 'text'; text: string }
  | { type: 'image_url'; image_url: { url: string; detail?: 'low' | 'high' | 'auto' } }

/** One turn of the conversation, as it is sent. */
export interface Message {
  role: Role
  content: string | ContentPart[]
  name?: string
  /** Assistant only. */
  tool_calls?: { id: string; type: 'function'; function: { name: string; arguments: string } }[]
  /** Assistant only: as it came with the answer's `done`. */
  state?: string
  /** Tool only: which call this is the result of. */
  tool_call_id?: string
}

/** A function that the model may call; `parameters` is a JSON Schema object. */
export interface ToolSpec {
  type: 'function'
  function: { name: string; description?: string; parameters?: object; strict?: boolean }
}

/**
 * How an answer is to be made. Fields not named here are sent as they are: the relay passes them on
 * to OpenAI-compatible providers.
 */
export interface ModelOptions {
  /** The relay's default model when absent. */
  model?: string | undefined
  temperature?: number | undefined
  topP?: number | undefined
  maxTokens?: number | undefined
  stop?: string | string[] | undefined
  tools?: ToolSpec[] | undefined
  toolChoice?: 'auto' | 'none' | 'required' | { type: 'function'; function: { name: string } } | undefined
  seed?: number | undefined
  user?: string | undefined
  [field: string]: unknown
}

export interface ChatParams extends ModelOptions {
  messages: Message[]
  /** Ends the request, its retries and the stream with an `AbortError`. */
  signal?: AbortSignal | undefined
}

export interface ChatStreamParams extends ChatParams {
  /**
   * Lets the stream survive broken connections, and lets it be picked up with `resumeStream`, if the
   * relay keeps streams. The answer is then still generated for a while after the client has gone.
   */
  resumable?: boolean | undefined
  /**
   * Tells that a request is the same as an earlier one: the relay then gives that one's stream, if it is
   * resumable. Default: a new one for each call, and the same for its retries.
   */
  idempotencyKey?: string | null | undefined
  /** Reads the stream behind this position instead of asking: what a browser sends as `Last-Event-ID`. */
  lastEventId?: string | null | undefined
}

/** A whole answer. */
export interface ChatCompletion {
  content: string
  reasoning?: string
  toolCalls?: ToolCall[]
  finishReason: FinishReason
  model?: string
  usage?: Usage
  state?: string
}
