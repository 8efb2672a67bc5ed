import { AbortError, TimeoutError } from './errors.js'

/** The longest time that `setTimeout` keeps; above it, it fires at once. */
const longest = 2 ** 31 - 1

/**
 * Waits for `work`, but not past an abort, and not longer than `ms`, if that is given: then it rejects, with a
 * `TimeoutError` of this `phase`. Whatever happens, it leaves no timer and no listener behind.
 */
export async function within<T>(
  work: Promise<T>,
  ms: number | undefined,
  phase: TimeoutError['phase'],
  signal: AbortSignal,
): Promise<T> {
  let settle = (): void => {}
  const limit = new Promise<never>((_, reject) => {
    const abort = (): void => reject(new AbortError(signal.reason))
    const late = (): void => reject(new TimeoutError(phase))
    const timer = ms === undefined ? ms : setTimeout(late, Math.min(ms, longest))
    signal.addEventListener('abort', abort)
    if (signal.aborted) abort()
    settle = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    }
  })
  try {
    return await Promise.race([work, limit])
  } finally {
    settle()
  }
}

/** Whether the device says that it has no network. */
export const offline = (): boolean => globalThis.navigator?.onLine === false

/** The first comes to the document and bubbles. Servers have neither. */
const reasonsToWake = ['visibilitychange', 'online']

/**
 * Resolves after `ms` milliseconds, or rejects with an `AbortError`. When `eager`, it also resolves as soon
 * as the network is back or the page is looked at again: then a wait has lost its reason.
 */
export async function sleep(ms: number, signal: AbortSignal, eager: boolean): Promise<void> {
  let wake = (): void => {}
  const awake = new Promise<void>((resolve) => {
    wake = () => {
      if (globalThis.document?.visibilityState !== 'hidden') resolve()
    }
  })
  if (eager) for (const event of reasonsToWake) globalThis.addEventListener?.(event, wake)
  await within(awake, ms, 'idle', signal).catch(() => {})
  for (const event of reasonsToWake) globalThis.removeEventListener?.(event, wake)
  if (signal.aborted) throw new AbortError(signal.reason)
}
