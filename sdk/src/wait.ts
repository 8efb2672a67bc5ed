import { AbortError, TimeoutError } from './errors.js'

/** The longest time that `setTimeout` keeps; above it, it fires at once. */
const longest = 2 ** 31 - 1

/**
 * Waits for `work`, but not past an abort, and not longer than `ms` (0: no limit): then it calls `cancel` and
 * rejects, with a `TimeoutError` of this `phase`. Whatever happens, it leaves no timer and no listener behind.
 */
export function within<T>(
  work: Promise<T>,
  ms: number,
  phase: TimeoutError['phase'],
  signal: AbortSignal,
  cancel: () => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    }
    const give = (error: unknown): void => {
      settle()
      reject(error)
      cancel()
    }
    const abort = (): void => give(new AbortError(signal.reason))
    const timer = ms > 0 ? setTimeout(() => give(new TimeoutError(phase)), Math.min(ms, longest)) : undefined

    signal.addEventListener('abort', abort)
    work.finally(settle).then(resolve, reject)
    if (signal.aborted) abort()
  })
}

/** Whether the device says that it has no network. */
export const offline = (): boolean => globalThis.navigator?.onLine === false

/** The first comes to the document and bubbles. Servers have neither. */
const reasonsToWake = ['visibilitychange', 'online']

/**
 * Resolves after `ms` milliseconds, or rejects with an `AbortError`. When `eager`, it also resolves as soon
 * as the network is back or the page is looked at again: then a wait has lost its reason.
 */
export function sleep(ms: number, signal: AbortSignal, eager: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      for (const event of reasonsToWake) globalThis.removeEventListener?.(event, wake)
      if (signal.aborted) reject(new AbortError(signal.reason))
      else resolve()
    }
    const wake = (): void => {
      if (globalThis.document?.visibilityState !== 'hidden') end()
    }
    const timer = setTimeout(end, Math.min(ms, longest))
    signal.addEventListener('abort', end)
    if (eager) for (const event of reasonsToWake) globalThis.addEventListener?.(event, wake)
    if (signal.aborted) end()
  })
}
