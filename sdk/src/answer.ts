import type { ChatCompletion, ContentPart, Message, Role, StreamChunk, ToolCall } from './types.js'

/** A message as the store keeps it: what is sent, and what only people see. */
export interface UIMessage extends Partial<Omit<ChatCompletion, 'content'>> {
  role: Role
  content: string
  /** Sent instead of `content`, for images. */
  parts?: ContentPart[]
  /** Tool only: which call this is the result of. */
  toolCallId?: string
  /** The answer broke off here. */
  interrupted?: true
}

/** An answer under way. */
export class Answer {
  content = ''
  reasoning = ''
  toolCalls: ToolCall[] = []
  #end: Partial<UIMessage> = { interrupted: true }

  add(chunk: StreamChunk): void {
    if (chunk.type === 'content') this.content += chunk.content
    else if (chunk.type === 'reasoning') this.reasoning += chunk.content
    else if (chunk.type === 'tool_call') this.toolCalls = [...this.toolCalls, chunk.tool]
    else if (chunk.type === 'done') {
      const { finishReason = 'stop', usage, model } = chunk
      this.#end = { finishReason, ...(usage && { usage }), ...(model && { model }) }
    }
  }

  /** The stream ended well, whether or not it said how. */
  complete(): void {
    if (this.#end.interrupted) this.#end = { finishReason: 'stop' }
  }

  /** The message to keep; none when nothing has come. */
  message(): UIMessage | undefined {
    const { content, reasoning, toolCalls } = this
    if (!content && !reasoning && !toolCalls.length) return undefined
    return {
      role: 'assistant',
      content,
      ...(reasoning && { reasoning }),
      ...(toolCalls.length && { toolCalls }),
      ...this.#end,
    }
  }
}

/**
 * The conversation as it is sent. Providers refuse an assistant message with nothing in it, and a
 * tool call without its result: such a message or call was for people only.
 */
export function wire(messages: readonly UIMessage[]): Message[] {
  const answered = new Set(messages.map(({ toolCallId }) => toolCallId))
  return messages.flatMap(({ role, content, parts, toolCalls = [], toolCallId }) => {
    const calls = toolCalls
      .filter(({ id }) => answered.has(id))
      .map(({ id, name, arguments: text }) => ({
        id,
        type: 'function' as const,
        function: { name, arguments: text },
      }))
    if (role === 'assistant' && !content && !calls.length) return []
    return {
      role,
      content: parts ?? content,
      ...(calls.length && { tool_calls: calls }),
      ...(toolCallId && { tool_call_id: toolCallId }),
    }
  })
}
