import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const repository = fileURLToPath(new URL('../..', import.meta.url))

export interface Relay {
  url: string
  /** Where its metrics are, if `RELAY_ADMIN_ADDR` is set. */
  admin: string | undefined
  stop: () => Promise<void>
}

/** Builds the relay. Gives nothing, and says so, on a machine without Go; in CI that is a failure. */
export function buildRelay():
  | { start: (env?: Record<string, string>) => Promise<Relay>; remove: () => void }
  | undefined {
  try {
    execFileSync('go', ['version'], { stdio: 'ignore' })
  } catch (error) {
    if (process.env.CI === 'true') throw error
    console.log('skipped: the tests against the relay need Go to build it')
    return undefined
  }
  const directory = mkdtempSync(join(tmpdir(), 'websopy-relay-'))
  const binary = join(directory, 'relay')
  execFileSync('go', ['build', '-o', binary, './cmd/relay'], { cwd: repository, stdio: 'inherit' })
  return {
    start: (env = {}) => startRelay(binary, env),
    remove: () => rmSync(directory, { recursive: true }),
  }
}

/** Starts the relay with the demo provider on a port of its own. */
async function startRelay(binary: string, env: Record<string, string>): Promise<Relay> {
  const process_ = spawn(binary, {
    env: {
      RELAY_ADDR: '127.0.0.1:0',
      RELAY_ADMIN_ADDR: '',
      RELAY_LOG_FORMAT: 'json',
      RELAY_SHUTDOWN_GRACE: '0s',
      UPSTREAM_KIND: 'demo',
      ...env,
    },
    stdio: ['ignore', 'inherit', 'pipe'],
  })
  const exited = once(process_, 'exit')
  let admin: string | undefined
  const addr = await new Promise<string>((resolve, reject) => {
    // Read to its end: a full pipe would hold the relay up.
    createInterface(process_.stderr).on('line', (line) => {
      const { message, addr } = JSON.parse(line)
      if (message === 'listening') resolve(addr)
      if (message === 'metrics and pprof') admin = `http://${addr}`
    })
    process_.on('error', reject)
    process_.on('exit', (code) => reject(new Error(`the relay exited with ${code}`)))
  })
  return {
    url: `http://${addr}`,
    admin,
    stop: async () => {
      process_.kill()
      await exited
    },
  }
}
