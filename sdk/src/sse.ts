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
 * Makes a decoder of one event stream, given in pieces of any size: each call gives the events that `bytes`
 * completes. An event without its blank line is incomplete. `onRetry` is told the server's word how long to
 * wait before connecting again, in milliseconds.
 *
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation, less
 * the event names, which the relay never uses.
 */
export function eventDecoder(onRetry: (ms: number) => void) {
  // One decoder for the whole body: a character may be split between two pieces.
  const utf8 = new TextDecoder()
  let line = ''
  // The last piece ended in CR: an LF at the start of the next one belongs to it.
  let afterCR = false
  let data: string | undefined
  let id: string | undefined

  return function* decode(bytes: Uint8Array): Generator<ServerSentEvent, void> {
    let text = utf8.decode(bytes, { stream: true })
    if (!text) return
    if (afterCR && text[0] === '\n') text = text.slice(1)
    afterCR = text.endsWith('\r')

    const lines = text.split(/\r\n|\n|\r/)
    lines[0] = line + lines[0]
    line = lines.pop()!
    for (const each of lines) {
      if (each) take(each)
      else {
        if (data !== undefined) yield { data, id }
        data = id = undefined
      }
    }
    if (line.length + (data?.length ?? 0) > maxEvent) {
      throw new StreamError({ error: 'An event is over 100 MiB', code: 'event_too_large' })
    }
  }

  function take(each: string): void {
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(each)!
    if (field === 'data') data = data === undefined ? value : `${data}\n${value}`
    else if (field === 'id' && !value.includes('\0')) id = value
    else if (field === 'retry' && /^\d+$/.test(value)) onRetry(Number(value))
  }
}
