import { APIError, type WebsopyError } from './errors.js'
import { offline, sleep } from './wait.js'

/** Nobody looks at a spinner for longer: a server that asks for more is reported instead. */
const longestWait = 60_000

/** The attempts of one request or stream: whether there is another, and how long to wait before it. */
export class Retries {
  /** Milliseconds that the server wants between two connections. */
  pause = 0
  /** Told of what made a further attempt necessary. */
  onWait: ((error: WebsopyError) => void) | undefined
  #used = 0
  /** Attempts are not counted until then: the stream is still there, or the device has no network. */
  #until: number | undefined
  /** Nothing is under way: the next attempt is waited for. */
  waiting = false

  constructor(
    /** Attempts after the first. */
    public max = 3,
  ) {}

  /** The server has the stream: what was tried before does not count any more. */
  alive(): void {
    this.#until = undefined
  }

  /** Something new has arrived: waits are short again. */
  progress(): void {
    this.#used = 0
  }

  /** Goes on for at least `ms` milliseconds from the first failure, however many attempts that takes. */
  persist(ms: number): void {
    this.#until ??= Date.now() + ms
  }

  /** Waits until the next attempt is due; throws `error` when there is to be none. */
  async wait(error: WebsopyError, signal: AbortSignal): Promise<void> {
    if (offline()) this.persist(longestWait)
    const patient = this.max > 0 && this.#until !== undefined
    const more = patient ? Date.now() < this.#until! : this.#used < this.max
    if (!worthwhile(error, patient) || !more) throw error
    // Jitter, so that clients cut off together don't come back together.
    const backoff = this.pause + Math.random() * Math.min(8000, 500 * 2 ** this.#used++)
    const { retryAfter } = error as { retryAfter?: number }
    const ms = retryAfter === undefined ? backoff : retryAfter * 1000
    if (ms > longestWait && !patient) throw error
    this.onWait?.(error)
    this.waiting = true
    await sleep(ms, signal, retryAfter === undefined)
    this.waiting = false
  }
}

/** A network that asks for a login, as a hotel's does, answers everything with its own page. */
const worthwhile = (error: WebsopyError, patient: boolean): boolean =>
  error.retryable || (patient && error instanceof APIError && error.code === 'not_a_stream')
