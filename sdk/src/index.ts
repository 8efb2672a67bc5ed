export { type AI, WebsopyClient } from './client.js'
export {
  AbortError,
  APIError,
  ConnectionError,
  StreamError,
  StreamInterruptedError,
  TimeoutError,
  WebsopyError,
} from './errors.js'
export type { ChatStream, StreamEvents } from './stream.js'
export type { ClientOptions } from './transport.js'
export type {
  ChatCompletion,
  ChatParams,
  ChatStreamParams,
  ContentChunk,
  ContentPart,
  DoneChunk,
  ErrorChunk,
  FinishReason,
  Message,
  ReasoningChunk,
  Role,
  StreamChunk,
  ToolCall,
  ToolCallChunk,
  ToolSpec,
  Usage,
} from './types.js'
