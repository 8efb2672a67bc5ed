import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface Proxy {
  url: string
  /** Resets every connection that is open now, as a network does that goes away. */
  cut: () => void
  /** Cuts, and refuses connections until `up`. */
  down: () => void
  /** Passes nothing on any more, in either direction, and says nothing of it, until `up`. */
  blackhole: () => void
  up: () => void
  /** Passes bytes on to the client only after so many milliseconds. */
  delay: (ms: number) => void
}

/** Passes TCP connections on to a server, until the test is over. */
export async function proxyTo(url: string): Promise<Proxy> {
  const { hostname, port } = new URL(url)
  const pairs = new Set<[Socket, Socket]>()
  let state: 'up' | 'down' | 'blackhole' = 'up'
  let late = 0
  const cut = () => {
    for (const pair of pairs) for (const socket of pair) socket.resetAndDestroy()
  }
  const server = createServer((client) => {
    if (state === 'down') return void client.resetAndDestroy()
    const upstream = connect(Number(port), hostname)
    const pair: [Socket, Socket] = [client, upstream]
    pairs.add(pair)
    for (const [one, other] of [pair, [upstream, client]] as const) {
      one.on('error', () => {})
      one.on('close', () => {
        pairs.delete(pair)
        other.destroy()
      })
      one.on('data', (bytes) => {
        const ms = one === upstream ? late : 0
        if (ms) setTimeout(() => other.write(bytes), ms)
        else other.write(bytes)
      })
      if (state === 'blackhole') one.pause()
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(async () => {
    cut()
    await new Promise((resolve) => server.close(resolve))
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    down: () => {
      state = 'down'
      cut()
    },
    blackhole: () => {
      state = 'blackhole'
      for (const pair of pairs) for (const socket of pair) socket.pause()
    },
    up: () => {
      state = 'up'
      for (const pair of pairs) for (const socket of pair) socket.resume()
    },
    delay: (ms) => {
      late = ms
    },
  }
}
