import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/** Passes TCP connections on to a server, and can reset those that are open. */
export async function proxyTo(url) {
  const { hostname, port } = new URL(url)
  const open = new Set()
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ]) {
      open.add(one)
      one.on('error', () => {})
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const cut = () => {
    for (const socket of open) socket.resetAndDestroy()
  }
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut,
    close() {
      server.close()
      cut()
    },
  }
}

/** A port below those that systems give to who asks for any: one of those may be another program's by then. */
export async function freePort() {
  for (;;) {
    const port = randomInt(10_000, 32_768)
    const probe = createServer().listen(port, '127.0.0.1')
    const free = await once(probe, 'listening').then(
      () => true,
      () => false,
    )
    if (!free) continue
    await new Promise((resolve) => probe.close(resolve))
    return port
  }
}

/** Resolves when somebody listens there. */
export async function listening(port, process_) {
  for (;;) {
    if (process_.exitCode !== null)
      throw new Error(`${process_.spawnargs.join(' ')} exited with ${process_.exitCode}`)
    const socket = connect(port, '127.0.0.1')
    const found = await new Promise((resolve) => {
      socket.on('connect', () => resolve(true))
      socket.on('error', () => resolve(false))
    })
    socket.destroy()
    if (found) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
