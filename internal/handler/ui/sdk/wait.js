import { AbortError, TimeoutError } from './errors.js';
/** The longest time that `setTimeout` keeps; above it, it fires at once. */
const longest = 2 ** 31 - 1;
/**
 * Waits for `work`, but not past an abort, and not longer than `ms`: then it calls `cancel` and
 * rejects with `late`. Whatever happens, it leaves no timer and no listener behind.
 */
export function within(work, { ms, late, signal, cancel, }) {
    return new Promise((resolve, reject) => {
        const settle = () => {
            clearTimeout(timer);
            signal.removeEventListener('abort', abort);
        };
        const give = (error) => {
            settle();
            reject(error);
            cancel();
        };
        const abort = () => give(new AbortError(signal.reason));
        const timer = ms > 0 ? setTimeout(() => give(new TimeoutError(late)), Math.min(ms, longest)) : undefined;
        signal.addEventListener('abort', abort);
        work.finally(settle).then(resolve, reject);
        if (signal.aborted)
            abort();
    });
}
/** Resolves after `ms` milliseconds, or rejects with an `AbortError`. */
export function sleep(ms, signal) {
    let timer;
    const work = new Promise((resolve) => {
        timer = setTimeout(resolve, ms);
    });
    return within(work, { ms: 0, late: 'idle', signal, cancel: () => clearTimeout(timer) });
}
