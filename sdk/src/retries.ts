import type { WebsopyError } from './errors.js'
import { sleep } from './wait.js'

/** Nobody looks at a spinner for longer: a server that asks for more is reported instead. */
export const longestWait = 60_000

/** The attempts of one request or stream: whether there is another, and how long to wait before it. */
export interface Retries {
  /** Attempts after the first. */
  max: number
  /** Milliseconds that the server wants between two connections. */
  pause: number
  /** Attempts are not counted until this time: the stream is still there, or the device has no network. */
  until: number
  /** Attempts since something new has arrived. */
  used: number
  /** Nothing is under way: the next attempt, or the key for it, is waited for. */
  waiting: boolean
  /** Goes on for `ms` milliseconds from the first failure, however many attempts that takes. */
  persist(ms: number): void
  /** Waits until the next attempt is due; throws `error` when there is to be none. */
  wait(error: WebsopyError, signal: AbortSignal): Promise<void>
}

/** `onWait` is told of what made a further attempt necessary. */
export function createRetries(max: number, onWait?: (error: WebsopyError) => void): Retries {
  const retries: Retries = {
    max,
    pause: 0,
    until: 0,
    used: 0,
    waiting: true,

    persist(ms) {
      retries.until ||= Date.now() + ms
    },

    async wait(error, signal) {
      // The device says that it has no network.
      if (globalThis.navigator?.onLine === false) retries.persist(longestWait)
      const { until, max } = retries
      const now = Date.now()
      const more = until && max ? now < until : retries.used < max
      const { retryAfter } = error as { retryAfter?: number }
      // Jitter, so that clients cut off together don't come back together.
      const backoff = retries.pause + Math.random() * Math.min(8000, 500 * 2 ** retries.used++)
      const ms = retryAfter === undefined ? backoff : retryAfter * 1000
      // A network that asks for a login, as a hotel's does, answers everything with its own page.
      const passing = error.retryable || (until && error.code === 'not_a_stream')
      // A stream that is gone by then is not waited for.
      if (!more || !passing || now + retryAfter! * 1000 > (until || now + longestWait)) throw error
      onWait?.(error)
      retries.waiting = true
      await sleep(ms, signal, retryAfter === undefined)
    },
  }
  return retries
}
