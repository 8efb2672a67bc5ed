import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  resolve: {
    // Tests import the package as its users do, from its source.
    alias: [
      { find: /^@websopy\/sdk$/, replacement: source('./src/index.ts') },
      { find: /^@websopy\/sdk\/(.*)$/, replacement: source('./src/$1.ts') },
    ],
  },
  test: {
    include: ['test/*.test.{ts,tsx}'],
    restoreMocks: true,
    testTimeout: 20_000,
  },
})
