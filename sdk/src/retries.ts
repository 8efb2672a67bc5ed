import { WebsopyError } from './errors.js'
import { sleep } from './wait.js'

/** Nobody looks at a spinner for longer: a server that asks for more is reported instead. */
const longestWait = 60_000

/** The attempts of one request or stream: how many are left, and how long to wait before each. */
export class Retries {
  #used = 0

  constructor(
    /** Attempts after the first. */
    readonly max = 3,
  ) {}

  /** Something new has arrived: attempts count anew. */
  progress(): void {
    this.#used = 0
  }

  /** Waits until the next attempt is due; throws `error` when there is to be none. */
  async wait(error: unknown, signal: AbortSignal): Promise<void> {
    if (!(error instanceof WebsopyError) || !error.retryable || this.#used >= this.max) throw error
    // Full jitter, so that clients cut off together don't come back together.
    const backoff = Math.random() * Math.min(8000, 500 * 2 ** this.#used++)
    const { retryAfter } = error as { retryAfter?: number }
    const ms = retryAfter === undefined ? backoff : retryAfter * 1000
    if (ms > longestWait) throw error
    await sleep(ms, signal)
  }
}
