import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Seen {
  method: string
  url: string
  headers: IncomingMessage['headers']
  body: string
}

/** One request, with what a handler needs to answer it as the relay would, or as it never should. */
export class Exchange {
  constructor(
    readonly seen: Seen,
    readonly response: ServerResponse,
    /** Settles when the connection is gone, whoever closed it. */
    readonly closed: Promise<unknown>,
  ) {}

  /** Starts an event stream and flushes its headers. */
  stream(headers: Record<string, string> = {}): this {
    this.response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', ...headers })
    this.response.flushHeaders()
    return this
  }

  /** Writes frames, each with its id if it has one. Resolves when the socket has taken them. */
  frames(...frames: (object | string)[]): Promise<void> {
    const text = frames.map((frame) => {
      if (typeof frame === 'string') return `data: ${frame}\n\n`
      const { $id, ...json } = frame as { $id?: string }
      return `data: ${JSON.stringify(json)}\n${$id ? `id: ${$id}\n` : ''}\n`
    })
    return this.raw(text.join(''))
  }

  raw(bytes: string | Uint8Array): Promise<void> {
    return new Promise((resolve) => this.response.write(bytes, () => resolve()))
  }

  json(status: number, body: unknown, headers: Record<string, string> = {}): void {
    this.response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(JSON.stringify(body))
  }

  /** Cuts the connection as a network does: no end of the body. */
  reset(): void {
    this.response.socket?.resetAndDestroy()
  }

  end(): void {
    this.response.end()
  }
}

export interface TestServer {
  url: string
  seen: Seen[]
}

type Handler = (exchange: Exchange) => unknown

/**
 * Serves on a port of its own until the test is over. One handler answers every request; of several,
 * each answers one request in turn, and the last all further ones.
 */
export async function serve(...handlers: [Handler, ...Handler[]]): Promise<TestServer> {
  const seen: Seen[] = []
  const server = createServer((request, response) => {
    const closed = once(response, 'close')
    // A reset by the peer is what many tests are about.
    request.on('error', () => {})
    response.on('error', () => {})
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (piece) => {
      body += piece
    })
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const one: Seen = { method, url, headers, body }
      const handler = handlers[Math.min(seen.push(one), handlers.length) - 1]!
      handler(new Exchange(one, response, closed))
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen }
}

export const content = (text: string) => ({ type: 'content', content: text })
export const done = { type: 'done', finishReason: 'stop', usage: { promptTokens: 3, completionTokens: 2 } }
export const failure = {
  type: 'error',
  error: 'The provider failed',
  code: 'upstream_error',
  retryable: true,
  requestId: 'r1',
}

/** A handler that sends a whole answer. */
export const answer =
  (...texts: string[]): Handler =>
  async (exchange) => {
    await exchange.stream().frames(...texts.map(content), done, '[DONE]')
    exchange.end()
  }
