import type { WebsopyError } from './errors.js'
import { offline, sleep } from './wait.js'

/** Nobody looks at a spinner for longer: a server that asks for more is reported instead. */
export const longestWait = 60_000

/** The attempts of one request or stream: whether there is another, and how long to wait before it. */
export class Retries {
  /** Milliseconds that the server wants between two connections. */
  pause = 0
  /** Attempts are not counted until this time: the stream is still there, or the device has no network. */
  until = 0
  /** Attempts since something new has arrived. */
  used = 0
  /** Nothing is under way: the next attempt is waited for. */
  waiting = false

  constructor(
    /** Attempts after the first. */
    public max = 3,
    /** Told of what made a further attempt necessary. */
    readonly onWait: (error: WebsopyError) => void = () => {},
  ) {}

  /** Goes on for `ms` milliseconds from the first failure, however many attempts that takes. */
  persist(ms: number): void {
    this.until ||= Date.now() + ms
  }

  /** Waits until the next attempt is due; throws `error` when there is to be none. */
  async wait(error: WebsopyError, signal: AbortSignal): Promise<void> {
    if (offline()) this.persist(longestWait)
    const { until, max } = this
    const more = until && max ? Date.now() < until : this.used < max
    const { retryAfter } = error as { retryAfter?: number }
    // Jitter, so that clients cut off together don't come back together.
    const backoff = this.pause + Math.random() * Math.min(8000, 500 * 2 ** this.used++)
    const ms = retryAfter === undefined ? backoff : retryAfter * 1000
    // A network that asks for a login, as a hotel's does, answers everything with its own page.
    const passing = error.retryable || (until && error.code === 'not_a_stream')
    if (!more || !passing || (!until && ms > longestWait)) throw error
    this.onWait(error)
    this.waiting = true
    await sleep(ms, signal, retryAfter === undefined)
    this.waiting = false
  }
}
