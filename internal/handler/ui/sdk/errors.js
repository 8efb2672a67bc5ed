/** The root of everything that the SDK throws. `code` is for programs, `message` for people. */
export class WebsopyError extends Error {
    name = 'WebsopyError';
    code;
    /** Whether the same request may succeed later. */
    retryable;
    constructor(message, { code, retryable = false, cause }) {
        super(message, { cause });
        this.code = code;
        this.retryable = retryable;
    }
}
/** The caller ended it: `signal`, `abort()` or leaving the loop. Its `cause` is the signal's reason. */
export class AbortError extends WebsopyError {
    name = 'AbortError';
    constructor(cause) {
        super('The request was aborted', { code: 'aborted', cause });
    }
}
/** The server could not be reached, or the connection broke. */
export class ConnectionError extends WebsopyError {
    name = 'ConnectionError';
    constructor(message, code = 'connection_error', cause) {
        super(message, { code, retryable: true, cause });
    }
}
/** The server was silent for too long. */
export class TimeoutError extends ConnectionError {
    phase;
    partial;
    name = 'TimeoutError';
    constructor(
    /** `connect`: no response headers; `idle`: the stream went silent. */
    phase, 
    /** The text received before it. */
    partial = '') {
        super(phase === 'idle' ? 'The stream went silent' : 'The server did not answer in time', 'timeout');
        this.phase = phase;
        this.partial = partial;
    }
}
/** The stream ended before the answer was complete, and could not be resumed. */
export class StreamInterruptedError extends ConnectionError {
    partial;
    name = 'StreamInterruptedError';
    constructor(
    /** The text received before it. */
    partial, cause) {
        super('The connection ended before the answer was complete', 'stream_interrupted', cause);
        this.partial = partial;
    }
}
/** The server refused: an HTTP status instead of a stream. */
export class APIError extends WebsopyError {
    name = 'APIError';
    status;
    /** Finds the request in the relay's log. */
    requestId;
    /** Seconds to wait before asking again, when the server said so. */
    retryAfter;
    constructor(message, details) {
        super(message, details);
        this.status = details.status;
        this.requestId = details.requestId;
        this.retryAfter = details.retryAfter;
    }
}
/** The answer failed on the server, or the server sent what is no answer. */
export class StreamError extends WebsopyError {
    partial;
    name = 'StreamError';
    requestId;
    /** Which of the relay's clocks ran out, when `code` is `upstream_timeout`. */
    phase;
    /** Seconds to wait before asking again, when the provider said so. */
    retryAfter;
    constructor(frame, 
    /** The text received before it. */
    partial = '') {
        super(frame.error, frame);
        this.partial = partial;
        this.requestId = frame.requestId;
        this.phase = frame.phase;
        this.retryAfter = frame.retryAfter;
    }
}
