import { StreamError } from './errors.js'

/** One event of an event stream. Only an event that has an `id` of its own moves the cursor. */
export interface ServerSentEvent {
  data: string
  id: string | undefined
}

/**
 * The longest event, in UTF-16 units: a server that never ends one must not fill the memory. The relay
 * takes 16 MiB of a tool call's arguments, and JSON escapes may make six characters of one.
 */
const maxEvent = 100 * 1024 * 1024

/**
 * Decodes an event stream, given in pieces of any size.
 *
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation, less
 * the event names, which the relay never uses.
 */
export class EventDecoder {
  /** One decoder for the whole body: a character may be split between two pieces. */
  #utf8 = new TextDecoder()
  #line = ''
  /** The last piece ended in CR: an LF at the start of the next one belongs to it. */
  #afterCR = false
  #data: string | undefined
  #id: string | undefined
  /** The server's word how long to wait before connecting again, in milliseconds. */
  retry: number | undefined

  /** Gives the events that `bytes` completes. An event without its blank line is incomplete. */
  decode(bytes: Uint8Array): ServerSentEvent[] {
    let text = this.#utf8.decode(bytes, { stream: true })
    if (!text) return []
    if (this.#afterCR && text[0] === '\n') text = text.slice(1)
    this.#afterCR = text.endsWith('\r')

    const events: ServerSentEvent[] = []
    const [first, ...rest] = text.split(/\r\n|\n|\r/)
    this.#line += first
    for (const next of rest) {
      this.#take(this.#line, events)
      this.#line = next
    }
    if (this.#line.length + (this.#data?.length ?? 0) > maxEvent) {
      throw new StreamError({ error: 'An event is over 100 MiB', code: 'event_too_large' })
    }
    return events
  }

  #take(line: string, events: ServerSentEvent[]): void {
    if (line === '') {
      if (this.#data !== undefined) events.push({ data: this.#data, id: this.#id })
      this.#data = this.#id = undefined
      return
    }
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!
    if (field === 'data') this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`
    else if (field === 'id' && !value.includes('\0')) this.#id = value
    else if (field === 'retry' && /^\d+$/.test(value)) this.retry = Number(value)
  }
}
