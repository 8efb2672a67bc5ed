import { AbortError, APIError, ConnectionError, connectionFailure, WebsopyError } from './errors.js'
import type { Retries } from './retries.js'
import { within } from './wait.js'

export interface ClientOptions {
  /**
   * Sent as bearer token. A function is asked before every request, so that short-lived tokens stay
   * fresh. In a browser a string is refused: everybody could read it there.
   */
  apiKey?: string | undefined | (() => string | undefined | Promise<string | undefined>)
  /** Allows a string as `apiKey` in a browser, for keys that are no secret. */
  dangerouslyAllowBrowser?: boolean
  /** Where the relay is, without the path; `''` is the page's own origin. Default: the hosted API. */
  baseURL?: string
  /** Used instead of the global `fetch`; the response needs `status`, `headers` and `body.getReader()`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>
  /** Sent with every request. */
  headers?: Record<string, string>
  /** Whether cookies are sent to another origin; see `fetch`. */
  credentials?: RequestCredentials
  /**
   * Further attempts after a failed one. Default 3. A resumable stream that breaks is picked up for as long
   * as the relay keeps it, unless this is 0.
   */
  maxRetries?: number
  /**
   * Milliseconds until the response headers, for each attempt; 0: no limit. Default 60 s.
   */
  timeout?: number
  /** Milliseconds without a byte until a stream counts as broken; 0: no limit. Default 60 s. */
  idleTimeout?: number
}

/** An answered request whose body is still to be read; `abort` lets go of the connection. */
export interface Connection {
  response: Response
  abort: () => void
}

export interface Call {
  method: 'GET' | 'POST'
  path: string
  headers?: Record<string, string>
  body?: string | undefined
}

export interface Exchange extends Call {
  signal: AbortSignal
  /** Whether sending it twice does no harm. */
  repeatable: unknown
  /** Takes a 2xx response. What it throws, unless typed, counts as a broken connection. */
  accept: (connection: Connection) => void
}

/** One client's way to the server: address, credentials, time-outs, retries. */
export interface Transport {
  readonly maxRetries: number
  readonly idleTimeout: number
  /** Sends until it is answered with 2xx, or `retries` or the signal says that it is enough. */
  send: (exchange: Exchange, retries: Retries) => Promise<void>
}

export function createTransport({
  apiKey,
  dangerouslyAllowBrowser,
  baseURL = 'https://api.websopy.com',
  fetch: request = (url, init) => fetch(url, init),
  headers: own = {},
  credentials,
  maxRetries = 3,
  timeout = 60_000,
  idleTimeout = 60_000,
}: ClientOptions): Transport {
  if (typeof apiKey === 'string' && typeof document === 'object' && !dangerouslyAllowBrowser) {
    throw new WebsopyError('In a browser everybody can read an API key: see dangerouslyAllowBrowser', {
      code: 'key_in_browser',
    })
  }

  async function attempt(
    { path, method, body, headers, accept }: Exchange,
    connection: AbortController,
    retries: Retries,
  ): Promise<void> {
    const key = typeof apiKey === 'function' ? await apiKey() : apiKey
    retries.waiting = false
    const all: Record<string, string> = { ...(key && { authorization: `Bearer ${key}` }), ...headers }
    // The caller's own headers win, however they are spelt.
    for (const [name, value] of Object.entries(own)) all[name.toLowerCase()] = value
    const init = {
      // Some edge runtimes throw at the mere presence of `credentials`.
      ...(credentials && { credentials }),
      method,
      body,
      headers: all,
      signal: connection.signal,
    }
    try {
      const response = await request(baseURL.replace(/\/+$/, '') + path, init as RequestInit)
      if (!response.ok) throw await refusal(response)
      accept({ response, abort: () => connection.abort() })
    } catch (error) {
      throw connectionFailure('The server could not be reached', error)
    }
  }

  async function send(exchange: Exchange, retries: Retries): Promise<void> {
    const { signal, repeatable, body } = exchange
    for (;;) {
      if (signal.aborted) throw new AbortError(signal.reason)
      const connection = new AbortController()
      const began = Date.now()
      try {
        return await within(attempt(exchange, connection, retries), timeout || Infinity, 'connect', signal)
      } catch (thrown) {
        connection.abort()
        // What the key function throws is the app's to know where a question is asked. Where an answer is picked up,
        // that function most often lacks the network that broke, too.
        const error = body ? thrown : connectionFailure('The server could not be reached', thrown)
        if (!(error instanceof WebsopyError)) throw error
        if (!repeatable && mayBeAnswered(error, Date.now() - began)) throw error
        await retries.wait(error, signal)
      }
    }
  }

  return { maxRetries, idleTimeout, send }
}

const isPassing = (status: number): boolean => [408, 425, 429].includes(status)

/**
 * Whether a question may have been answered, and billed, in an attempt that failed so after `ms`. The relay
 * sends its headers within 10 ms: a connection that breaks early has most likely brought it nothing. What
 * says of itself that it took no question is its own refusal, 408, 425, 429 and 503.
 */
function mayBeAnswered(error: WebsopyError, ms: number): boolean {
  if (error instanceof APIError) {
    return error.code.startsWith('http_') && error.status !== 503 && !isPassing(error.status)
  }
  return error instanceof ConnectionError && ms > 5000
}

interface Refusal {
  error?: unknown
  code?: string
  retryable?: boolean
  requestId?: string
  retryAfter?: number
}

/** Reads the error object of docs/protocol.md, 4, or makes the best of another server's body. */
async function refusal(response: Response): Promise<APIError> {
  const { status, headers } = response
  // A proxy's HTML page tells people nothing.
  const body: Refusal = Object(
    await response
      .text()
      .then(JSON.parse)
      .catch(() => {}),
  )
  // OpenAI's servers put an object here.
  const message = Object(body.error).message ?? body.error
  return new APIError(typeof message === 'string' ? message : `The server answered ${status}`, {
    status,
    code: body.code ?? `http_${status}`,
    // The server knows best, but no status beyond these is worth asking again.
    retryable: (status >= 500 || isPassing(status)) && body.retryable !== false,
    requestId: body.requestId ?? headers.get('x-request-id') ?? undefined,
    retryAfter: seconds(headers.get('retry-after')) ?? body.retryAfter,
  })
}

/** https://www.rfc-editor.org/rfc/rfc9110#name-retry-after: seconds or a date. */
function seconds(retryAfter: string | null): number | undefined {
  if (!retryAfter) return undefined
  const value = Number(retryAfter)
  if (value >= 0) return value
  const date = Date.parse(retryAfter)
  return Number.isNaN(date) ? undefined : Math.max(0, (date - Date.now()) / 1000)
}
