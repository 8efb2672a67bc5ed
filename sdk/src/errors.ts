import type { ErrorChunk } from './types.js'

interface Details {
  code: string
  retryable?: boolean
  cause?: unknown
}

/** The root of everything that the SDK throws. `code` is for programs, `message` for people. */
export class WebsopyError extends Error {
  override name = 'WebsopyError'
  readonly code: string
  /** Whether the same request may succeed later. */
  readonly retryable: boolean

  constructor(message: string, { code, retryable = false, cause }: Details) {
    super(message, { cause })
    this.code = code
    this.retryable = retryable
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

  constructor(message: string, code = 'connection_error', cause?: unknown) {
    super(message, { code, retryable: true, cause })
  }
}

/** The server was silent for too long. */
export class TimeoutError extends ConnectionError {
  override name = 'TimeoutError'

  constructor(
    /** `connect`: no response headers; `idle`: the stream went silent. */
    readonly phase: 'connect' | 'idle',
    /** The text received before it. */
    readonly partial = '',
  ) {
    super(phase === 'idle' ? 'The stream went silent' : 'The server did not answer in time', 'timeout')
  }
}

/** The stream ended before the answer was complete, and could not be resumed. */
export class StreamInterruptedError extends ConnectionError {
  override name = 'StreamInterruptedError'

  constructor(
    /** The text received before it. */
    readonly partial: string,
    cause?: unknown,
  ) {
    super('The connection ended before the answer was complete', 'stream_interrupted', cause)
  }
}

/** The server refused: an HTTP status instead of a stream. */
export class APIError extends WebsopyError {
  override name = 'APIError'
  readonly status: number
  /** Finds the request in the relay's log. */
  readonly requestId: string | undefined
  /** Seconds to wait before asking again, when the server said so. */
  readonly retryAfter: number | undefined

  constructor(
    message: string,
    details: Details & {
      status: number
      requestId?: string | undefined
      retryAfter?: number | undefined
    },
  ) {
    super(message, details)
    this.status = details.status
    this.requestId = details.requestId
    this.retryAfter = details.retryAfter
  }
}

/** The answer failed on the server, or the server sent what is no answer. */
export class StreamError extends WebsopyError {
  override name = 'StreamError'
  readonly requestId: string | undefined
  /** Which of the relay's clocks ran out, when `code` is `upstream_timeout`. */
  readonly phase: string | undefined
  /** Seconds to wait before asking again, when the provider said so. */
  readonly retryAfter: number | undefined

  constructor(
    frame: Omit<ErrorChunk, 'type'>,
    /** The text received before it. */
    readonly partial = '',
  ) {
    super(frame.error, frame)
    this.requestId = frame.requestId
    this.phase = frame.phase
    this.retryAfter = frame.retryAfter
  }
}
