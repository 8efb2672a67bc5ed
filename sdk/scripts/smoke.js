// Packs the package, installs the packed file into an empty project and tries it on every runtime.
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const sdk = fileURLToPath(new URL('..', import.meta.url))
const runtimes = join(sdk, 'smoke')
const npm = (cwd, ...args) =>
  execFileSync('npm', ['--loglevel=error', ...args], { cwd, stdio: ['ignore', 'ignore', 'inherit'] })

const { platform, arch } = process
const commands = {
  'Node 20': [`node20-${platform}-${arch}/bin/node`],
  'Node 22': [`node22-${platform}-${arch}/bin/node`],
  'Node 24': [`node24-${platform}-${arch}/bin/node`],
  Deno: [
    `@deno/${platform}-${arch}-glibc/deno`,
    'run',
    '--allow-net=127.0.0.1',
    '--allow-env',
    '--node-modules-dir=manual',
  ],
  Bun: [`@oven/bun-${platform}-${arch}/bin/bun`, 'run'],
}

const project = mkdtempSync(join(tmpdir(), 'websopy-smoke-'))
let skipped = 0
try {
  npm(runtimes, 'ci', '--no-audit', '--no-fund', '--ignore-scripts')
  npm(sdk, 'pack', '--pack-destination', project)
  const [packed] = readdirSync(project)
  writeFileSync(join(project, 'package.json'), '{"type":"module"}')
  npm(project, 'install', '--no-audit', '--no-fund', '--offline', `./${packed}`)
  copyFileSync(join(runtimes, 'smoke.js'), join(project, 'smoke.js'))

  for (const [name, [path, ...args]] of Object.entries(commands)) {
    const command = join(runtimes, 'node_modules', path)
    if (!existsSync(command)) {
      console.log(`${name}: skipped, smoke/package.json has none for ${platform}-${arch}`)
      skipped++
      continue
    }
    execFileSync(command, [...args, 'smoke.js'], { cwd: project, stdio: 'inherit', timeout: 60_000 })
    console.log(`${name}: ok`)
  }
} finally {
  rmSync(project, { recursive: true, force: true })
}
if (skipped && process.env.CI === 'true') process.exit(1)
