import { defineConfig } from 'vitest/config'
import common from './vitest.config.ts'

/** Tests that drive a real browser, one file at a time: it needs the machine for itself. */
export default defineConfig({
  ...common,
  test: {
    ...common.test,
    include: ['test/browser/*.test.ts'],
    testTimeout: 60_000,
    fileParallelism: false,
  },
})
