import type { ErrorChunk } from './types.js'

interface Details {
  code: string
  retryable?: boolean
  cause?: unknown
  [property: string]: unknown
}

/** The root of everything that the SDK throws. `code` is for programs, `message` for people. */
export class WebsopyError extends Error {
  override name = 'WebsopyError'
  declare readonly code: string
  /** Whether the same request may succeed later. */
  declare readonly retryable: boolean

  constructor(message: string, details: Details) {
    super(message, details)
    Object.assign(this, { retryable: false }, details)
  }
}

/** The caller ended it: `signal`, `abort()` or leaving the loop. Its `cause` is the signal's reason. */
export class AbortError extends WebsopyError {
  override name = 'AbortError'

  constructor(cause?: unknown) {
    super('The request was aborted', { code: 'aborted', cause })
  }
}

/** The server could not be reached, or the connection broke. */
export class ConnectionError extends WebsopyError {
  override name = 'ConnectionError'

  constructor(message: string, cause?: unknown, more?: object) {
    super(message, { code: 'connection_error', retryable: true, cause, ...more })
  }
}

/** What made a connection fail, as an error of ours. */
export const connectionFailure = (message: string, cause?: unknown): WebsopyError =>
  cause instanceof WebsopyError ? cause : new ConnectionError(message, cause)

/** The server was silent for too long. */
export class TimeoutError extends ConnectionError {
  override name = 'TimeoutError'
  /** `connect`: no response headers; `idle`: the stream went silent. */
  declare readonly phase: 'connect' | 'idle'
  /** The text received before it. */
  declare readonly partial: string

  constructor(phase: TimeoutError['phase'], partial = '') {
    super('The server was silent for too long', undefined, { code: 'timeout', phase, partial })
  }
}

/** The stream ended before the answer was complete, and could not be resumed. */
export class StreamInterruptedError extends ConnectionError {
  override name = 'StreamInterruptedError'
  /** The text received before it. */
  declare readonly partial: string

  constructor(partial: string, cause?: unknown) {
    super('The connection ended before the answer was complete', cause, {
      code: 'stream_interrupted',
      partial,
    })
  }
}

/** The server refused: an HTTP status instead of a stream. */
export class APIError extends WebsopyError {
  override name = 'APIError'
  declare readonly status: number
  /** Finds the request in the relay's log. */
  declare readonly requestId: string | undefined
  /** Seconds to wait before asking again, when the server said so. */
  declare readonly retryAfter: number | undefined
}

/** The answer failed on the server, or the server sent what is no answer. */
export class StreamError extends WebsopyError {
  override name = 'StreamError'
  declare readonly requestId: string | undefined
  /** Which of the relay's clocks ran out, when `code` is `upstream_timeout`. */
  declare readonly phase: string | undefined
  /** Seconds to wait before asking again, when the provider said so. */
  declare readonly retryAfter: number | undefined
  /** The text received before it. */
  declare readonly partial: string

  constructor(chunk: Pick<ErrorChunk, 'error' | 'code'> & Partial<ErrorChunk>, partial = '') {
    const { type, error, ...details } = chunk
    super(error, { ...details, partial })
  }
}

/** Calls what the app gave. Its own bug is reported as such, but neither the answer nor the others suffer. */
export function call<T>(listener: ((value: T) => void) | undefined, value?: T): void {
  try {
    listener?.(value as T)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
