import { AbortError, TimeoutError } from './errors.js'

/** The longest time that `setTimeout` keeps; above it, it fires at once. */
const longest = 2 ** 31 - 1

/**
 * Waits for `work`, but not past an abort, and not longer than `ms`: then it calls `cancel` and
 * rejects with `late`. Whatever happens, it leaves no timer and no listener behind.
 */
export function within<T>(
  work: Promise<T>,
  {
    ms,
    late,
    signal,
    cancel,
  }: { ms: number; late: TimeoutError['phase']; signal: AbortSignal; cancel: () => void },
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
    const timer = ms > 0 ? setTimeout(() => give(new TimeoutError(late)), Math.min(ms, longest)) : undefined

    signal.addEventListener('abort', abort)
    work.finally(settle).then(resolve, reject)
    if (signal.aborted) abort()
  })
}

/** Whether the device says that it has no network. */
export const offline = (): boolean => globalThis.navigator?.onLine === false

/**
 * Resolves after `ms` milliseconds, or rejects with an `AbortError`. When `eager`, it also resolves as soon
 * as the network is back or the page is looked at again: then a wait has lost its reason.
 */
export async function sleep(ms: number, signal: AbortSignal, eager = false): Promise<void> {
  let timer: ReturnType<typeof setTimeout>
  let wake = (): void => {}
  const listen = (on: 'addEventListener' | 'removeEventListener'): void => {
    // `visibilitychange` comes to the document and bubbles; servers have neither.
    if (eager) for (const event of ['online', 'visibilitychange']) globalThis[on]?.(event, wake)
  }
  const work = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(ms, longest))
    wake = () => {
      if (globalThis.document?.visibilityState !== 'hidden') resolve()
    }
  })
  const cancel = (): void => clearTimeout(timer)
  listen('addEventListener')
  try {
    await within(work, { ms: 0, late: 'idle', signal, cancel })
  } finally {
    cancel()
    listen('removeEventListener')
  }
}
