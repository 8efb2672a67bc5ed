// Copies what the demo page uses of dist/ into the relay, which embeds it: serving needs no Node.
// With --check it only compares, and fails when the committed copy is not this build.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'

const dist = new URL('../dist/', import.meta.url)
const ui = new URL('../../internal/handler/ui/sdk/', import.meta.url)

/** The entries, and all that they import. */
const files = new Map()
const add = (name) => {
  if (files.has(name)) return
  const source = readFileSync(new URL(name, dist), 'utf8')
  files.set(name, source)
  for (const [, imported] of source.matchAll(/from '\.\/([\w-]+\.js)'/g)) add(imported)
}
add('index.js')
add('store.js')

if (process.argv.includes('--check')) {
  const committed = readdirSync(ui).sort()
  const same =
    committed.join() === [...files.keys()].sort().join() &&
    committed.every((name) => readFileSync(new URL(name, ui), 'utf8') === files.get(name))
  if (!same) {
    console.error('internal/handler/ui/sdk is not this build of the SDK: run npm run build:ui and commit it')
    process.exit(1)
  }
} else {
  rmSync(ui, { recursive: true, force: true })
  mkdirSync(ui)
  for (const [name, source] of files) writeFileSync(new URL(name, ui), source)
}
