import { AbortError, APIError, ConnectionError, WebsopyError } from './errors.js';
import { within } from './wait.js';
/** One client's way to the server: address, credentials, time-outs, retries. */
export class Transport {
    options;
    #base;
    constructor(options) {
        if (typeof options.apiKey === 'string' &&
            typeof document === 'object' &&
            !options.dangerouslyAllowBrowser) {
            throw new WebsopyError('An API key in a browser can be read by everybody. Let your server talk to the API, or set dangerouslyAllowBrowser.', { code: 'key_in_browser' });
        }
        this.options = options;
        this.#base = (options.baseURL ?? 'https://api.websopy.com').replace(/\/+$/, '');
    }
    /** Sends until it is answered with 2xx, or `retries` or the signal says that it is enough. */
    async send(exchange, retries) {
        const { signal, timeout } = exchange;
        for (;;) {
            if (signal.aborted)
                throw new AbortError(signal.reason);
            const connection = new AbortController();
            const cancel = () => connection.abort();
            try {
                return await within(this.#attempt(exchange, connection), {
                    ms: timeout,
                    late: 'connect',
                    signal,
                    cancel,
                });
            }
            catch (error) {
                await retries.wait(error, signal);
            }
        }
    }
    async #attempt({ path, method, body, headers, accept }, connection) {
        const { apiKey, credentials, fetch: send = (url, init) => fetch(url, init) } = this.options;
        const key = typeof apiKey === 'function' ? await apiKey() : apiKey;
        const init = {
            method,
            headers: merge({ ...(key && { authorization: `Bearer ${key}` }), ...headers }, this.options.headers),
            signal: connection.signal,
        };
        // Some edge runtimes throw at the mere presence of `credentials`.
        if (credentials)
            init.credentials = credentials;
        if (body)
            init.body = body;
        try {
            const response = await send(this.#base + path, init);
            if (response.ok)
                return await accept({ response, abort: () => connection.abort() });
            throw await refusal(response);
        }
        catch (error) {
            if (error instanceof WebsopyError)
                throw error;
            throw new ConnectionError('The server could not be reached', undefined, error);
        }
    }
}
/** The caller's own headers win, however they are spelt. */
function merge(ours, theirs = {}) {
    for (const [name, value] of Object.entries(theirs))
        ours[name.toLowerCase()] = value;
    return ours;
}
/** Reads the error object of docs/protocol.md, 4, or makes the best of another server's body. */
async function refusal(response) {
    const { status, headers } = response;
    const text = await response.text().catch(() => '');
    let body = {};
    try {
        body = Object(JSON.parse(text));
    }
    catch {
        // A proxy's HTML page tells people nothing.
    }
    const message = typeof body.error === 'object' ? body.error?.message : body.error;
    return new APIError(typeof message === 'string' ? message : `The server answered ${status}`, {
        status,
        code: body.code ?? `http_${status}`,
        // The server knows best, but no status beyond these is worth asking again.
        retryable: (status >= 500 || [408, 425, 429].includes(status)) && body.retryable !== false,
        requestId: body.requestId ?? headers.get('x-request-id') ?? undefined,
        retryAfter: seconds(headers.get('retry-after')) ?? body.retryAfter,
    });
}
/** https://www.rfc-editor.org/rfc/rfc9110#name-retry-after: seconds or a date. */
function seconds(retryAfter) {
    if (!retryAfter)
        return undefined;
    const value = Number(retryAfter);
    if (value >= 0)
        return value;
    const date = Date.parse(retryAfter);
    return Number.isNaN(date) ? undefined : Math.max(0, (date - Date.now()) / 1000);
}
