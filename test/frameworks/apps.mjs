// The applications under test: the recipes of docs/frontends.md, as they stand there, in real frameworks.
import { execFile, spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { transformSync } from 'esbuild'
import { freePort, listening, proxyTo } from './network.mjs'

const here = fileURLToPath(new URL('.', import.meta.url))
const repository = join(here, '../..')
const run = promisify(execFile)

/** The recipes by the path that their first line names. Types are taken away, as a bundler does. */
const recipes = Object.fromEntries(
  [
    ...readFileSync(join(repository, 'docs/frontends.md'), 'utf8').matchAll(
      /^```(js|ts)\n\/\/ (\S+)\n(.*?)^```$/gms,
    ),
  ].map(([, loader, path, code]) => [path, transformSync(code, { loader }).code]),
)

function write(app, files) {
  const directory = join(here, '.apps', app)
  rmSync(directory, { recursive: true, force: true })
  for (const [path, code] of Object.entries(files)) {
    if (code === undefined) throw new Error(`docs/frontends.md has no recipe for ${path}`)
    const file = join(directory, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, code)
  }
  return directory
}

const running = []
process.on('exit', () => {
  for (const each of running) each.kill()
})

const bin = (name) => join(here, 'node_modules/.bin', name)

/** Starts a program of Node's that listens on a port of its own, and gives its address. */
async function start(directory, [program, ...args], env) {
  for (let tries = 1; ; tries++) {
    const port = await freePort()
    const process_ = spawn(process.execPath, [program, ...args.map((arg) => arg.replace('PORT', port))], {
      cwd: directory,
      env: { ...process.env, ...env, PORT: `${port}`, HOST: '127.0.0.1' },
      stdio: ['ignore', process.env.VERBOSE ? 'inherit' : 'ignore', 'inherit'],
    })
    running.push(process_)
    try {
      await listening(port, process_)
      return `http://127.0.0.1:${port}`
    } catch (error) {
      if (tries === 3) throw error // else somebody else may have taken the port
    }
  }
}

/** Builds the relay and the SDK, and starts the relay in front of a provider. */
export async function startRelay(provider) {
  const binary = join(mkdtempSync(join(tmpdir(), 'websopy-frameworks-')), 'relay')
  await Promise.all([
    run('go', ['build', '-o', binary, './cmd/relay'], { cwd: repository }),
    run('npm', ['run', 'build'], { cwd: join(repository, 'sdk') }),
  ])
  const installed = join(here, 'node_modules/@websopy/sdk')
  rmSync(installed, { recursive: true, force: true })
  for (const part of ['package.json', 'dist'])
    cpSync(join(repository, 'sdk', part), join(installed, part), { recursive: true })

  const port = await freePort()
  const relay = spawn(binary, {
    env: {
      RELAY_ADDR: `127.0.0.1:${port}`,
      RELAY_ADMIN_ADDR: '',
      RELAY_TRUSTED_PROXIES: '127.0.0.1',
      UPSTREAM_KIND: 'openai',
      UPSTREAM_BASE_URL: provider,
      UPSTREAM_MODEL: 'm',
      RELAY_SHUTDOWN_GRACE: '0s',
    },
    stdio: ['ignore', 'ignore', process.env.VERBOSE ? 'inherit' : 'ignore'],
  })
  running.push(relay)
  relay.on('exit', () => rmSync(dirname(binary), { recursive: true }))
  await listening(port, relay)
  return `http://127.0.0.1:${port}`
}

const build = (cwd, command, env) => run(process.execPath, command, { cwd, env: { ...process.env, ...env } })

/** Stops everything that was started. */
export async function stop() {
  await Promise.all(
    running.map(
      (process_) =>
        process_.exitCode ??
        new Promise((resolve) => {
          process_.on('exit', resolve)
          process_.kill()
        }),
    ),
  )
}

async function express(relay) {
  const directory = write('express', { 'server.mjs': recipes['server.mjs'] })
  return start(directory, ['server.mjs'], { RELAY_URL: relay })
}

/** Rewrites are read when the application is built, the route's environment when it runs. */
async function next(rewrites, relay) {
  const route = (path) => ({ [`app/own/${path}.js`]: recipes[`app/${path}.ts`] })
  const directory = write('next', {
    'rewrites.mjs': recipes['next.config.mjs'],
    'next.config.mjs': `import config from './rewrites.mjs'
      export default { ...config, turbopack: { root: '${here}' } }`,
    'jsconfig.json': '{ "compilerOptions": { "paths": { "@/*": ["./*"] } } }',
    'lib/relay.js': recipes['lib/relay.ts'],
    ...route('v1/ai/chat/stream/route'),
    ...route('api/chat/stream/[id]/route'),
    ...route('api/chat/stream/[id]/stop/route'),
  })
  const env = { NODE_ENV: 'production', NEXT_TELEMETRY_DISABLED: '1' }
  await build(directory, [bin('next'), 'build'], { ...env, RELAY_URL: rewrites })
  return start(directory, [bin('next'), 'start', '-p', 'PORT', '-H', '127.0.0.1'], {
    ...env,
    RELAY_URL: relay,
  })
}

/** What Nuxt is made of. */
async function nitro(rule, relay) {
  const directory = write('nitro', {
    'server/middleware/relay.js': recipes['server/middleware/relay.js'],
    'nitro.config.mjs': `export default {
      compatibilityDate: '2026-01-01',
      srcDir: 'server',
      routeRules: { '/rule/**': { proxy: '${rule}/**' } },
    }`,
  })
  await build(directory, [bin('nitropack'), 'build'])
  return start(directory, ['.output/server/index.mjs'], { RELAY_URL: relay })
}

async function vite(relay) {
  const directory = write('vite', {
    'vite.config.js': recipes['vite.config.js'],
    'index.html': '<!doctype html>',
  })
  return start(directory, [bin('vite'), '--port', 'PORT', '--strictPort', '--host', '127.0.0.1'], {
    RELAY_URL: relay,
  })
}

/** The ways to a relay, each with a connection to it that can be cut. */
export async function startApps(relay) {
  const backs = await Promise.all(Array.from({ length: 6 }, () => proxyTo(relay)))
  const [a, b, c, d, e, f] = backs.map(({ url }) => url)
  const [expressURL, nextURL, nitroURL, viteURL] = await Promise.all([
    express(a),
    next(b, c),
    nitro(d, e),
    vite(f),
  ])
  return {
    'Express 5, a route': { url: expressURL, back: backs[0], own: true },
    'Next.js 16, rewrites': { url: nextURL, back: backs[1] },
    'Next.js 16, a route': { url: `${nextURL}/own`, back: backs[2], own: true },
    'Nitro 2 (Nuxt 4), a proxy rule': { url: `${nitroURL}/rule`, back: backs[3] },
    'Nitro 2 (Nuxt 4), a middleware': { url: nitroURL, back: backs[4] },
    'Vite 8, the development server': { url: viteURL, back: backs[5] },
  }
}
