import { Answer, wire } from './answer.js';
import { WebsopyClient } from './client.js';
import { AbortError } from './errors.js';
/** Milliseconds between two snapshots of a growing answer: about what a screen can show. */
const publishInterval = 32;
const idle = {
    streaming: false,
    currentContent: '',
    currentReasoning: '',
    currentToolCalls: [],
    streamId: undefined,
    error: undefined,
};
/**
 * A conversation, for any framework: the React hook and the Vue composable are this.
 *
 * Everything reads the store, never a captured snapshot, so a function kept from an earlier render
 * does the same as a fresh one.
 */
export class ChatStore {
    #options;
    #sameOrigin = new WebsopyClient({ baseURL: '' });
    #subscribers = new Set();
    #snapshot;
    /** Ends the answer under way; there is none when absent. */
    #run;
    #stream;
    #timer;
    /** `options` is asked before every request. */
    constructor(options = () => ({})) {
        this.#options = options;
        this.#snapshot = { ...idle, status: 'ready', messages: options().initialMessages ?? [] };
    }
    subscribe = (subscriber) => {
        this.#subscribers.add(subscriber);
        return () => void this.#subscribers.delete(subscriber);
    };
    getSnapshot = () => this.#snapshot;
    /**
     * Asks, with the whole conversation. Resolves to whether a complete answer came; `false` at once,
     * and nothing is sent, while another answer is under way or when there is nothing to ask. Never rejects.
     */
    sendMessage = (message) => {
        const asked = typeof message === 'string' ? { role: 'user', content: message } : message;
        if (!asked.content.trim() && !asked.parts?.length)
            return Promise.resolve(false);
        return this.#ask([...this.#snapshot.messages, asked]);
    };
    /** Asks again, for another answer in place of the last one. Resolves as `sendMessage` does. */
    regenerate = () => {
        const messages = [...this.#snapshot.messages];
        while (messages.at(-1)?.role === 'assistant')
            messages.pop();
        return this.#ask(messages);
    };
    /** Picks up an answer that was under way before, as after a reload. Resolves as `sendMessage` does. */
    resume = (streamId) => {
        const { client = this.#sameOrigin } = this.#options();
        return this.#receive(this.#snapshot.messages, (signal) => client.ai.resumeStream(streamId, { signal }));
    };
    /** Ends the answer under way and keeps what is there of it. */
    stop = () => {
        // When the server can't be told, it stops by itself soon, for want of a reader.
        if (this.#stream)
            this.#stream.stop().catch(() => { });
        else
            this.#run?.abort();
    };
    setMessages = (messages) => {
        this.#publish({ messages: typeof messages === 'function' ? messages(this.#snapshot.messages) : messages });
    };
    clearError = () => {
        if (this.#snapshot.status === 'error')
            this.#publish({ status: 'ready', error: undefined });
    };
    /** Closes the connection of the answer under way. The store can be used again after it. */
    dispose = () => this.#run?.abort();
    #ask(messages) {
        const role = messages.at(-1)?.role;
        if (role !== 'user' && role !== 'tool')
            return Promise.resolve(false);
        const { client = this.#sameOrigin, initialMessages, onChunk, resumable = true, ...options } = this.#options();
        const body = { ...options, resumable, messages: wire(messages) };
        return this.#receive(messages, (signal) => client.ai.chatStream({ ...body, signal }));
    }
    async #receive(messages, open) {
        if (this.#run)
            return false;
        const run = new AbortController();
        this.#run = run;
        this.#publish({ ...idle, messages, status: 'submitted', streaming: true });
        const answer = new Answer();
        let error;
        try {
            this.#stream = await open(run.signal);
            this.#publish({ streamId: this.#stream.id });
            for await (const chunk of this.#stream) {
                answer.add(chunk);
                this.#show(answer);
                this.#options().onChunk?.(chunk);
            }
            answer.complete();
        }
        catch (thrown) {
            if (!(thrown instanceof AbortError))
                error = thrown;
        }
        clearTimeout(this.#timer);
        this.#run = this.#stream = this.#timer = undefined;
        const kept = answer.message();
        this.#publish({
            ...idle,
            status: error ? 'error' : 'ready',
            error,
            messages: kept ? [...this.#snapshot.messages, kept] : this.#snapshot.messages,
        });
        return kept !== undefined && !kept.interrupted && kept.finishReason !== 'stopped';
    }
    /** Publishes the growing answer: its first chunk at once, the others as often as people can see. */
    #show(answer) {
        const publish = () => {
            this.#timer = undefined;
            this.#publish({
                status: 'streaming',
                currentContent: answer.content,
                currentReasoning: answer.reasoning,
                currentToolCalls: answer.toolCalls,
                streamId: this.#stream?.id,
            });
        };
        if (this.#snapshot.status === 'submitted')
            publish();
        else
            this.#timer ??= setTimeout(publish, publishInterval);
    }
    #publish(change) {
        this.#snapshot = { ...this.#snapshot, ...change };
        for (const subscriber of [...this.#subscribers])
            subscriber();
    }
}
