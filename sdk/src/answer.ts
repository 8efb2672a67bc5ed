import type { ChatCompletion, ContentPart, DoneChunk, Message, Role, StreamChunk, ToolCall } from './types.js'

/** A message as the store keeps it: what is sent, and what only people see. */
export interface UIMessage extends Partial<Omit<ChatCompletion, 'content'>> {
  role: Role
  content: string
  /** Sent instead of `content`, for images. */
  parts?: ContentPart[]
  /** Tool only: which call this is the result of. */
  toolCallId?: string
  /** The answer broke off here. */
  interrupted?: boolean
}

/** An answer under way. */
export class Answer {
  content = ''
  reasoning = ''
  toolCalls: ToolCall[] = []
  done: DoneChunk | undefined

  add(chunk: StreamChunk): void {
    if (chunk.type === 'content') this.content += chunk.content
    else if (chunk.type === 'reasoning') this.reasoning += chunk.content
    else if (chunk.type === 'tool_call') this.toolCalls = [...this.toolCalls, chunk.tool]
    else if (chunk.type === 'done') this.done = chunk
  }

  /** The answer as one object. A stream that ended well need not say how. */
  completion(end: Partial<UIMessage> = { finishReason: 'stop' }): ChatCompletion {
    const { content, reasoning, toolCalls, done } = this
    const { type, ...how } = done ?? {}
    return {
      content,
      ...(reasoning && { reasoning }),
      ...(toolCalls.length && { toolCalls }),
      ...end,
      ...how,
    } as ChatCompletion
  }
}

/** The message to keep of an answer, `interrupted` or not; none when nothing has come. */
export function messageOf(answer: Answer, interrupted: boolean): UIMessage | undefined {
  if (!answer.content && !answer.reasoning && !answer.toolCalls[0]) return undefined
  return { role: 'assistant', ...answer.completion(interrupted ? { interrupted } : undefined) }
}

/** One message as it is sent, with those of its calls that are `kept`. */
export function wireMessage(
  { role, content, parts, toolCalls = [], toolCallId, state }: UIMessage,
  kept: (call: ToolCall) => boolean = () => true,
): Message {
  const calls = toolCalls
    .filter(kept)
    .map(
      ({ id, name, arguments: text }) =>
        ({ id, type: 'function', function: { name, arguments: text } }) as const,
    )
  return {
    role,
    content: parts ?? content,
    ...(calls.length && { tool_calls: calls }),
    ...(toolCallId && { tool_call_id: toolCallId }),
    ...(state && { state }),
  }
}

/**
 * The conversation as it is sent. Providers refuse an assistant message with nothing in it, and a
 * tool call without its result: such a message or call was for people only.
 */
export function wire(messages: readonly UIMessage[]): Message[] {
  const answered = new Set(messages.map(({ toolCallId }) => toolCallId))
  return messages
    .map((message) => wireMessage(message, ({ id }) => answered.has(id)))
    .filter(({ role, content, tool_calls }) => role !== 'assistant' || content || tool_calls)
}
