import { APIError, ConnectionError, StreamError, WebsopyError } from './errors.js';
import { Retries } from './retries.js';
import { EventDecoder } from './sse.js';
import { within } from './wait.js';
/** What a finished stream's connection may still send, before it is closed instead of kept. */
const drainTime = 1000;
const chunkTypes = ['content', 'reasoning', 'tool_call', 'done', 'error'];
/** The path of a resumable stream (docs/protocol.md, 1). */
export const streamPath = (id) => `/api/chat/stream/${encodeURIComponent(id)}`;
/**
 * Receives one stream, over as many connections as it takes: no chunk is lost and none comes twice.
 *
 * Before the first chunk a broken request is sent again. After it the stream can only be resumed: a
 * second answer would be another text, and would be billed again.
 */
export class Receiver {
    /** The stream's id on the server, once known; only a resumable stream has one. */
    id;
    /** The position of the last chunk received from a resumable stream. */
    lastEventId;
    #connection;
    #started = false;
    #transport;
    #request;
    #signal;
    #retries;
    /** Takes the request that starts the stream, or the position in one that was started before. */
    constructor(transport, start, signal) {
        this.#transport = transport;
        this.#signal = signal;
        this.#retries = new Retries(transport.options.maxRetries);
        if ('id' in start)
            Object.assign(this, start);
        else
            this.#request = start;
        signal.addEventListener('abort', () => this.#drop());
    }
    /** Resolves at the response headers. */
    async connect() {
        const call = this.id
            ? {
                method: 'GET',
                path: streamPath(this.id),
                headers: this.lastEventId ? { 'last-event-id': this.lastEventId } : {},
            }
            : this.#request;
        this.#connection = await this.#transport.send({
            ...call,
            headers: { ...call.headers, accept: 'text/event-stream' },
            signal: this.#signal,
            timeout: this.#transport.options.timeout ?? 60_000,
            accept: eventStream,
        }, this.#retries);
        if (this.#signal.aborted)
            this.#drop();
        // Another origin's header is hidden unless exposed; then the `start` frame tells.
        this.id ??= this.#connection.response.headers.get('x-stream-id') ?? undefined;
    }
    /** Gives the chunks to the end. Throws when the stream is broken for good. */
    async *chunks() {
        for (;;) {
            const broken = yield* this.#read(this.#connection);
            if (!broken)
                return;
            if (this.#started && !this.id)
                throw broken;
            await this.#retries.wait(broken, this.#signal);
            await this.connect();
        }
    }
    /** Lets go of a body that nobody may have begun to read. */
    #drop() {
        this.#connection?.abort();
        this.#connection?.response.body?.cancel().catch(() => { });
    }
    /** Reads one connection. Returns what broke it, or nothing when the stream is complete. */
    async *#read({ response, abort }) {
        // The cursor is at the end: everything has been received before.
        if (response.status === 204)
            return;
        const reader = response.body.getReader();
        const decoder = new EventDecoder();
        const ms = this.#transport.options.idleTimeout ?? 60_000;
        let broken = false;
        try {
            for (;;) {
                const { done, value } = await within(reader.read(), {
                    ms,
                    late: 'idle',
                    signal: this.#signal,
                    cancel: abort,
                });
                if (done)
                    throw new ConnectionError('The connection was closed');
                for (const { data, id } of decoder.decode(value)) {
                    if (data === '[DONE]')
                        return;
                    const chunk = this.#take(data, id);
                    if (chunk)
                        yield chunk;
                }
            }
        }
        catch (error) {
            broken = true;
            return error instanceof WebsopyError
                ? error
                : new ConnectionError('The connection broke', undefined, error);
        }
        finally {
            // Not awaited: whoever waits for the end of the answer need not wait for the connection.
            if (broken || this.#signal.aborted)
                release(reader, abort);
            else
                void drain(reader, abort);
        }
    }
    /** Turns a frame into a chunk, if it is one and has not been received before. */
    #take(data, id) {
        let frame;
        try {
            frame = JSON.parse(data);
        }
        catch {
            const error = 'The stream holds a frame that is not JSON';
            throw new StreamError({ error, code: 'malformed_frame', retryable: false });
        }
        if (id !== undefined) {
            if (this.lastEventId !== undefined && sequence(id) <= sequence(this.lastEventId))
                return;
            this.lastEventId = id;
        }
        if (frame?.type === 'start')
            this.id = frame.id;
        if (!chunkTypes.includes(frame?.type ?? ''))
            return;
        this.#started = true;
        this.#retries.progress();
        return frame;
    }
}
/** The position in an id of the form `<stream>.<position>`. */
const sequence = (id) => Number(id.slice(id.lastIndexOf('.') + 1));
/** A page where a stream should be is most often a wrong address behind a catch-all route. */
function eventStream(connection) {
    const { status, headers, body } = connection.response;
    if (status === 204)
        return connection;
    const type = headers.get('content-type');
    if (type && !type.includes('text/event-stream')) {
        connection.abort();
        throw new APIError(`The server answered with ${type} instead of an event stream`, {
            status,
            code: 'not_a_stream',
        });
    }
    if (typeof body?.getReader !== 'function') {
        throw new WebsopyError('This fetch cannot stream: its response has no readable body. In React Native, pass fetch from "expo/fetch".', { code: 'no_body_stream' });
    }
    return connection;
}
function release(reader, abort) {
    reader.cancel().catch(() => { });
    abort();
}
/** Reads what follows the terminal, so that the connection can serve the next request. */
async function drain(reader, abort) {
    const timer = setTimeout(() => release(reader, abort), drainTime);
    try {
        while (!(await reader.read()).done)
            ;
    }
    catch {
        // The answer is complete; what happens to the connection now is nobody's concern.
    }
    finally {
        clearTimeout(timer);
    }
}
