import { AbortError, TimeoutError } from './errors.js'

/** The longest time that `setTimeout` keeps; above it, it fires at once. */
const longest = 2 ** 31 - 1

/**
 * Waits for `work`, but not past an abort, and not longer than `ms`: then it rejects, with a `TimeoutError` of
 * this `phase`. Whatever happens, it leaves no timer and no listener behind.
 */
export function within<T>(
  work: Promise<T>,
  ms: number,
  phase: TimeoutError['phase'],
  signal: AbortSignal,
): Promise<T> {
  let abort = (): void => {}
  let timer: ReturnType<typeof setTimeout> | undefined
  return new Promise<T>((resolve, reject) => {
    abort = () => reject(new AbortError(signal.reason))
    if (ms < Infinity) timer = setTimeout(() => reject(new TimeoutError(phase)), Math.min(ms, longest))
    signal.addEventListener('abort', abort)
    if (signal.aborted) abort()
    work.then(resolve, reject)
  }).finally(() => {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  })
}

/** The first comes to the document and bubbles. Servers have neither. */
const reasonsToWake = ['visibilitychange', 'online']

/**
 * Resolves after `ms` milliseconds, or at an abort. When `eager`, it also resolves as soon as the network is
 * back or the page is looked at again: then a wait has lost its reason.
 */
export async function sleep(ms: number, signal: AbortSignal, eager: boolean): Promise<void> {
  let wake = (): void => {}
  const awake = new Promise<void>((resolve) => {
    wake = () => {
      if (!globalThis.document?.hidden) resolve()
    }
  })
  if (eager) for (const event of reasonsToWake) globalThis.addEventListener?.(event, wake)
  await within(awake, ms, 'idle', signal).catch(() => {})
  for (const event of reasonsToWake) globalThis.removeEventListener?.(event, wake)
}
