import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { build, type Plugin } from 'esbuild'
import { onTestFinished } from 'vitest'
import { compileScript, parse } from 'vue/compiler-sfc'

/** Compiles single-file components, as a Vue project's bundler does. */
const vue: Plugin = {
  name: 'vue',
  setup(build) {
    build.onLoad({ filter: /\.vue$/ }, ({ path }) => {
      const { descriptor } = parse(readFileSync(path, 'utf8'), { filename: path })
      return { contents: compileScript(descriptor, { id: 'x', inlineTemplate: true }).content, loader: 'ts' }
    })
  },
}

/**
 * Bundles a page's script from the built package, as a user's bundler does for production, or for development,
 * where StrictMode mounts everything twice.
 */
export async function bundle(
  source: string,
  { development = false, alias = {} }: { development?: boolean; alias?: Record<string, string> } = {},
): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: fileURLToPath(new URL('../..', import.meta.url)), loader: 'tsx' },
    bundle: true,
    minify: !development,
    alias,
    write: false,
    format: 'esm',
    target: 'es2022',
    jsx: 'automatic',
    define: {
      'process.env.NODE_ENV': development ? '"development"' : '"production"',
      __VUE_OPTIONS_API__: 'false',
      __VUE_PROD_DEVTOOLS__: 'false',
    },
    plugins: [vue],
  })
  return outputFiles[0]!.text
}

/** Serves a page with this script, and the relay on the same origin, until the test is over. */
export async function serveSite(
  script: string,
  relay: string | (() => string),
): Promise<{ url: string; cut: () => void }> {
  const page =
    '<!doctype html><html lang="en"><title>Test</title><link rel="icon" href="data:,"><div id="app"></div><script type="module" src="/page.js"></script></html>'
  const server = createServer((incoming, response) => {
    if (incoming.url?.split('?')[0] === '/') {
      response.setHeader('content-type', 'text/html').end(page)
    } else if (incoming.url === '/page.js') {
      response.setHeader('content-type', 'text/javascript; charset=utf-8').end(script)
    } else {
      const { method, headers, url } = incoming
      const upstream = request(
        new URL(url!, typeof relay === 'string' ? relay : relay()),
        { method, headers },
        (answer) => {
          response.writeHead(answer.statusCode!, answer.headers)
          answer.pipe(response)
        },
      )
      upstream.on('error', () => response.destroy())
      response.on('close', () => upstream.destroy())
      incoming.pipe(upstream)
    }
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const cut = () => server.closeAllConnections()
  onTestFinished(async () => {
    cut()
    await new Promise((resolve) => server.close(resolve))
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, cut }
}
